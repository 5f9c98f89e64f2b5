//! Trace context: read from W3C `traceparent` or B3 headers, or started; handed on as this hop's child.
//!
//! Sources: W3C Trace Context level 1 (section 3.2), B3 propagation (single and multi header). `tracestate` and unknown
//! fields pass through untouched, since they are ordinary headers.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// In which headers a context came, and so leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    W3c,
    B3Single,
    B3Multi,
}

/// The trace a request belongs to, with a span of this proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    /// The caller's span; 0 where the trace starts here.
    parent: u64,
    span: u64,
    sampled: bool,
    format: Format,
}

impl TraceContext {
    /// The context of a request: a child of what its headers carry, or a new trace, sampled in `sample_ratio` (0 to 1) of
    /// the cases. A malformed header counts as none, as the specification asks.
    pub fn extract(headers: &HeaderMap, rng: &mut impl Rng, sample_ratio: f64) -> Self {
        let span = rng.random_range(1..=u64::MAX);
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let known = text(&TRACEPARENT)
            .and_then(parse_traceparent)
            .map(|parent| (parent, Format::W3c))
            .or_else(|| Some((parse_b3_single(text(&B3)?)?, Format::B3Single)))
            .or_else(|| {
                let debug = text(&B3_FLAGS) == Some("1");
                let sampled = debug || matches!(text(&B3_SAMPLED), Some("1" | "true"));
                let trace_id = parse_trace_id(text(&B3_TRACE_ID)?)?;
                Some((
                    Parent {
                        trace_id,
                        span: parse_span_id(text(&B3_SPAN_ID)?)?,
                        sampled,
                    },
                    Format::B3Multi,
                ))
            });
        match known {
            Some((parent, format)) => Self {
                trace_id: parent.trace_id,
                parent: parent.span,
                span,
                sampled: parent.sampled,
                format,
            },
            None => Self {
                trace_id: rng.random_range(1..=u128::MAX),
                parent: 0,
                span,
                sampled: rng.random_bool(sample_ratio.clamp(0.0, 1.0)),
                format: Format::W3c,
            },
        }
    }

    /// Writes this hop's context over the caller's, in the format the caller used.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let sampled = u8::from(self.sampled);
        match self.format {
            Format::W3c => {
                set(
                    headers,
                    TRACEPARENT,
                    &format!("00-{:032x}-{:016x}-{sampled:02x}", self.trace_id, self.span),
                );
            }
            Format::B3Single => {
                let value = format!(
                    "{:032x}-{:016x}-{sampled}-{:016x}",
                    self.trace_id, self.span, self.parent
                );
                set(headers, B3, &value);
            }
            Format::B3Multi => {
                // The trace ID stays as it came (64 or 128 bits), the rest is this span's.
                set(headers, B3_SPAN_ID, &format!("{:016x}", self.span));
                set(headers, B3_PARENT, &format!("{:016x}", self.parent));
            }
        }
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// 16 hexadecimal digits: this proxy's span.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// The caller's span, where there is one.
    pub fn parent_span_id(&self) -> Option<String> {
        (self.parent != 0).then(|| format!("{:016x}", self.parent))
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

struct Parent {
    trace_id: u128,
    span: u64,
    sampled: bool,
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value =
        HeaderValue::from_str(value).expect("hexadecimal digits and dashes are valid in a header");
    headers.insert(name, value);
}

/// `VERSION-TRACEID-SPANID-FLAGS`; a higher version may carry more fields behind.
fn parse_traceparent(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let version = parts
        .next()
        .filter(|v| v.len() == 2 && is_lower_hex(v) && *v != "ff")?;
    let trace_id = parts.next().filter(|v| v.len() == 32)?;
    let span = parts.next().filter(|v| v.len() == 16)?;
    let flags = parts.next().filter(|v| v.len() == 2 && is_lower_hex(v))?;
    if version == "00" && parts.next().is_some() || !is_lower_hex(trace_id) || !is_lower_hex(span) {
        return None;
    }
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some(Parent {
        trace_id: parse_trace_id(trace_id)?,
        span: parse_span_id(span)?,
        sampled,
    })
}

/// `TRACEID-SPANID[-SAMPLED[-PARENT]]`; a lone sampling decision carries no trace and counts as none.
fn parse_b3_single(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let trace_id = parse_trace_id(parts.next()?)?;
    let span = parse_span_id(parts.next()?)?;
    let sampled = matches!(parts.next(), Some("1" | "d"));
    Some(Parent {
        trace_id,
        span,
        sampled,
    })
}

fn parse_trace_id(text: &str) -> Option<u128> {
    if !matches!(text.len(), 16 | 32) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

fn parse_span_id(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    fn extract(headers: &HeaderMap) -> TraceContext {
        TraceContext::extract(headers, &mut SmallRng::seed_from_u64(7), 1.0)
    }

    #[test]
    fn a_w3c_context_is_handed_on_as_its_child() {
        let mut headers = headers(&[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )]);
        let context = extract(&headers);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            context.parent_span_id().as_deref(),
            Some("b7ad6b7169203331")
        );
        context.inject(&mut headers);
        let expected = format!(
            "00-0af7651916cd43dd8448eb211c80319c-{}-01",
            context.span_id()
        );
        assert_eq!(headers["traceparent"], expected.as_str());
    }

    #[test]
    fn a_malformed_parent_starts_a_new_trace() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let mut map = HeaderMap::new();
            map.insert(TRACEPARENT, HeaderValue::from_str(bad).unwrap());
            assert_eq!(extract(&map).parent_span_id(), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_carry_more_fields() {
        let map = headers(&[(
            "traceparent",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-later",
        )]);
        let context = extract(&map);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert!(!context.is_sampled());
    }

    #[test]
    fn b3_leaves_as_it_came() {
        let mut single = headers(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]);
        let context = extract(&single);
        context.inject(&mut single);
        let expected = format!(
            "80f198ee56343ba864fe8b2a57d3eff7-{}-1-e457b5a2e4d86bd1",
            context.span_id()
        );
        assert_eq!(single["b3"], expected.as_str());
        assert!(!single.contains_key("traceparent"));

        let mut multi = headers(&[
            ("x-b3-traceid", "64fe8b2a57d3eff7"),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "0"),
        ]);
        let context = extract(&multi);
        context.inject(&mut multi);
        assert_eq!(multi["x-b3-traceid"], "64fe8b2a57d3eff7");
        assert_eq!(multi["x-b3-spanid"], context.span_id().as_str());
        assert_eq!(multi["x-b3-parentspanid"], "e457b5a2e4d86bd1");
        assert!(!context.is_sampled());
    }

    #[test]
    fn without_a_parent_a_trace_starts_here() {
        let mut map = HeaderMap::new();
        let context = extract(&map);
        context.inject(&mut map);
        assert!(context.is_sampled());
        assert_eq!(extract(&map).trace_id(), context.trace_id());
        let never = TraceContext::extract(&HeaderMap::new(), &mut SmallRng::seed_from_u64(1), 0.0);
        assert!(!never.is_sampled());
    }
}
