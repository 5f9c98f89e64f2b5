//! Conditions, and how several faults become the message of one.

use weft_model::Problem;

/// So many faults are spelt out in one message.
const SPELT_OUT: usize = 4;
/// Kubernetes takes 32 KiB; nobody reads as much.
const LONGEST: usize = 2048;

/// One condition as it should be. When it became so is for whoever writes it to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub r#type: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
    /// The generation that it speaks of.
    pub generation: u64,
}

impl Condition {
    pub fn new(
        r#type: &'static str,
        status: bool,
        reason: &'static str,
        message: impl Into<String>,
        generation: u64,
    ) -> Self {
        Self {
            r#type,
            status,
            reason,
            message: shortened(message.into()),
            generation,
        }
    }

    /// `Programmed`: false, with what proxies said. Nothing where none refused: whether all have
    /// confirmed is more than one replica knows.
    pub fn programmed(refused: &[String], generation: u64) -> Option<Self> {
        let message = listed(refused.iter().cloned());
        let refused = !refused.is_empty();
        refused.then(|| Self::new("Programmed", false, "RefusedByProxy", message, generation))
    }
}

/// Faults as a text: `field: message`, each.
pub(crate) fn spelt_out<'a>(faults: impl IntoIterator<Item = &'a Problem>) -> String {
    listed(
        faults
            .into_iter()
            .map(|fault| match fault.field.as_str().is_empty() {
                true => fault.message.clone(),
                false => format!("{}: {}", fault.field, fault.message),
            }),
    )
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    let shown = texts[..texts.len().min(SPELT_OUT)].join("; ");
    match texts.len().saturating_sub(SPELT_OUT) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}
