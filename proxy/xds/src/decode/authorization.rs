//! `Authorization`. A condition of a kind that this proxy does not know stays in place as unreadable: an
//! ALLOW never matches by it and a DENY does. An action that it does not know refuses the policy.

use weft_proto::mesh;
use weft_proto::mesh::condition::Kind;
use weft_proxy_config::{Action, Condition, Invalid, Policy, StringMatch};

use super::{each, port};

pub(crate) fn authorization(
    name: &str,
    version: &str,
    wire: mesh::Authorization,
) -> Result<Policy, Invalid> {
    let action = match mesh::Action::try_from(wire.action) {
        Ok(mesh::Action::Allow) => Action::Allow,
        Ok(mesh::Action::Deny) => Action::Deny,
        Ok(mesh::Action::Unspecified) | Err(_) => {
            return Err(Invalid::new("action", "is one this proxy does not know"));
        }
    };
    let rules = each("rules", wire.rules, |rule| {
        let condition = condition(rule.condition.unwrap_or_default())
            .map_err(|fault| fault.within("condition"))?;
        Ok((rule.name, condition))
    })?;
    Ok(Policy::new(name, version, action, rules))
}

fn condition(wire: mesh::Condition) -> Result<Condition, Invalid> {
    let text =
        |wire, make: fn(StringMatch) -> Condition| string(wire).map_or(Condition::Unreadable, make);
    Ok(match wire.kind {
        Some(Kind::All(all)) => Condition::All(each("all", all.conditions, condition)?),
        Some(Kind::Any(any)) => Condition::Any(each("any", any.conditions, condition)?),
        Some(Kind::Not(inner)) => {
            let inner = condition(*inner).map_err(|fault| fault.within("not"))?;
            Condition::Not(Box::new(inner))
        }
        Some(Kind::Principal(value)) => text(value, Condition::Principal),
        Some(Kind::Namespace(value)) => text(value, Condition::Namespace),
        Some(Kind::ServiceAccount(account)) => Condition::ServiceAccount {
            namespace: account.namespace,
            name: account.name,
        },
        Some(Kind::SourceIp(block)) => Condition::SourceIp(
            block
                .parse()
                .map_err(|_| Invalid::new("source_ip", format!("{block:?} is no CIDR block")))?,
        ),
        Some(Kind::Port(number)) => Condition::Port(port("port", number)?),
        Some(Kind::Method(value)) => text(value, Condition::Method),
        Some(Kind::Path(value)) => text(value, Condition::path),
        Some(Kind::Host(value)) => text(value, Condition::host),
        Some(Kind::Header(header)) => match header.value.map(string) {
            None => Condition::header(&header.name, None)?,
            Some(Some(value)) => Condition::header(&header.name, Some(value))?,
            Some(None) => Condition::Unreadable,
        },
        None => Condition::Unreadable,
    })
}

/// None: of a kind that this proxy does not know.
fn string(wire: mesh::StringMatch) -> Option<StringMatch> {
    use mesh::string_match::Kind;
    Some(match wire.kind? {
        Kind::Exact(text) => StringMatch::Exact(text),
        Kind::Prefix(text) => StringMatch::Prefix(text),
        Kind::Suffix(text) => StringMatch::Suffix(text),
        Kind::Present(true) => StringMatch::Present,
        Kind::Present(false) => return None,
    })
}
