//! Results as tables or JSON, on standard output. A reader who goes away (`weft top | head`) is no fault: see [`is_reader_gone`].

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints text as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether it failed only because nobody reads any more.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref());
    io.into_iter()
        .any(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_pipe_is_a_reader_who_left() {
        let error = |kind| anyhow::Error::from(io::Error::from(kind)).context("while printing");
        assert!(is_reader_gone(&error(io::ErrorKind::BrokenPipe)));
        assert!(!is_reader_gone(&error(io::ErrorKind::NotFound)));
    }

    #[test]
    fn counts_read_well() {
        let texts = [0, 1, 2].map(|count| counted(count, "proxy", "proxies"));
        assert_eq!(texts, ["0 proxies", "1 proxy", "2 proxies"]);
    }
}
