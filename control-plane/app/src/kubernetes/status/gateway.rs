//! GatewayClass and Gateway: `status.conditions` of those that are this control plane's. It serves none, and says so.

use weft_model::{Kind, Reason};

use super::Told;
use super::condition::{Condition, spelt_out};

/// The conditions that one should have; `None` where another controller writes them.
pub(crate) fn conditions(told: &Told<'_>) -> Option<Vec<Condition>> {
    let faults = told.facts.compiled.iter();
    let faults: Vec<_> = faults
        .filter(|fault| fault.reason == Reason::UnsupportedValue)
        .collect();
    if faults.is_empty() {
        return None;
    }
    let message = spelt_out(faults);
    let condition = |r#type, reason| {
        let generation = told.shown.generation;
        Condition::new(r#type, false, reason, message.clone(), generation)
    };
    Some(match told.key.kind {
        Kind::GatewayClass => vec![condition("Accepted", "Unsupported")],
        _ => vec![
            condition("Accepted", "Invalid"),
            condition("Programmed", "Invalid"),
        ],
    })
}
