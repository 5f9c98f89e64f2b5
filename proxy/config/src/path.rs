//! One form per path, so that a rule which is written for `/admin` holds for every spelling of it.
//!
//! Follows RFC 3986 section 6.2.2 (case and percent-encoding of unreserved characters, dot segments) and
//! goes further where servers disagree: `\`, `%5C` and `%2F` count as `/`, repeated slashes as one. What no
//! two servers read alike (NUL, overlong UTF-8, broken escapes, `..;x`) is refused. An escape is undone
//! once: `%252e` stays what it is. Normalising twice changes nothing.
//!
//! A server may as well take `%2F` for a character of a name. [`literal`] is that reading, for those who
//! must be right either way.

use std::borrow::Cow;

/// Why a path has no safe reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not empty, `*` or beginning with `/`.
    #[error("a path begins with /")]
    NotAbsolute,
    /// A control character or NUL, raw or encoded NUL.
    #[error("a path must not contain control characters")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("a path must not contain broken percent-escapes")]
    Escape,
    /// UTF-8 that encodes a character in more bytes than it needs.
    #[error("a path must not contain overlong UTF-8")]
    Overlong,
    /// A `#` or `?`.
    #[error("a path must not contain # or ?")]
    Delimiter,
    /// A dot segment with parameters, such as `..;x`.
    #[error("a path must not contain dot segments with parameters")]
    DotParameters,
}

/// The normalised form of a request's path (without its query). `*` (OPTIONS) and the empty path
/// (CONNECT) stay as they are.
///
/// # Errors
/// The path has no safe reading.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if path.is_empty() || path == "*" || is_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with(['/', '\\']) {
        return Err(BadPath::NotAbsolute);
    }
    let decoded = decode(path, Slashes::Separate)?;
    check_overlong(&decoded)?;
    remove_dots(&decoded).map(Cow::Owned)
}

/// The other reading of a path with encoded slashes or backslashes: they are part of a name and separate
/// nothing. None: there is no other reading, or none that is safe.
pub fn literal(path: &str) -> Option<String> {
    let is_ambiguous = path.contains('\\')
        || path.as_bytes().windows(3).any(|escape| {
            matches!(
                escape,
                [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']
            )
        });
    if !is_ambiguous || !path.starts_with('/') {
        return None;
    }
    let decoded = decode(path, Slashes::Stay).ok()?;
    remove_dots(&decoded).ok()
}

/// What an encoded slash or a backslash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slashes {
    /// A slash like any other.
    Separate,
    /// A character of a name.
    Stay,
}

/// Whether there is plainly nothing to do; a path that this does not recognise may still be normal.
fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut previous = 0;
    path.iter().all(|&byte| {
        // Every dot segment begins with a dot after a slash.
        let plain = match byte {
            b'/' | b'.' => previous != b'/',
            b'%' | b'\\' | b'#' | b'?' => false,
            0..=0x20 | 0x7f.. => false,
            _ => true,
        };
        previous = byte;
        plain
    })
}

/// Undoes the escapes of unreserved characters, and of slashes if they separate; upper-cases the others.
/// What is left escaped keeps its `%`; all else is the character itself.
fn decode(path: &str, slashes: Slashes) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if slashes == Slashes::Separate => out.push('/'),
            '\\' => out.push_str("%5C"),
            '#' | '?' => return Err(BadPath::Delimiter),
            c if c.is_control() => return Err(BadPath::Control),
            '%' => {
                let mut digit = || {
                    rest.next()
                        .and_then(|c| c.to_digit(16))
                        .ok_or(BadPath::Escape)
                };
                let byte = (digit()? << 4 | digit()?) as u8;
                match byte {
                    0 => return Err(BadPath::Control),
                    b'/' | b'\\' if slashes == Slashes::Separate => out.push('/'),
                    byte if is_unreserved(byte) => out.push(char::from(byte)),
                    byte => {
                        out.push('%');
                        out.push(hex(byte >> 4));
                        out.push(hex(byte & 15));
                    }
                }
            }
            c if c.is_ascii() && c != ' ' => out.push(c),
            c => {
                // As a client should have sent it.
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    out.push('%');
                    out.push(hex(byte >> 4));
                    out.push(hex(byte & 15));
                }
            }
        }
    }
    Ok(out)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

/// Lead bytes C0 and C1, and E0 and F0 before a continuation that adds nothing, never stand in UTF-8:
/// some decoders read them as ASCII, `%C0%AE` as a dot.
fn check_overlong(path: &str) -> Result<(), BadPath> {
    let overlong = path.match_indices('%').any(|(at, _)| {
        let (lead, next) = (
            &path[at + 1..at + 3],
            path.get(at + 3..at + 6).unwrap_or(""),
        );
        match lead {
            "C0" | "C1" => true,
            "E0" => matches!(next.as_bytes(), [b'%', b'8' | b'9', _]),
            "F0" => next.starts_with("%8"),
            _ => false,
        }
    });
    if overlong {
        Err(BadPath::Overlong)
    } else {
        Ok(())
    }
}

/// Merges slashes and removes dot segments (RFC 3986 section 5.2.4).
fn remove_dots(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut ends_as_folder = false;
    for segment in path.split('/').skip(1) {
        ends_as_folder = true;
        match segment {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            other => {
                if matches!(other.split_once(';'), Some(("." | "..", _))) {
                    return Err(BadPath::DotParameters);
                }
                out.push('/');
                out.push_str(other);
                ends_as_folder = false;
            }
        }
    }
    if ends_as_folder || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
