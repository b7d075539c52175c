//! Messages from outside, made fit for a condition, an event or a log line.

/// Longer messages are cut: QEMU's standard error can come with a start failure and has no bound of its own.
const MAX_CHARS: usize = 512;

/// One line, no control characters, at most [`MAX_CHARS`] characters, without libvirt's `internal error:` prefixes.
pub(crate) fn clean(message: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in message
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
            length += 1;
        }
        for character in word.chars() {
            if length >= MAX_CHARS {
                out.push('…');
                return out;
            }
            out.push(character);
            length += 1;
        }
    }
    let mut message = out.as_str();
    while let Some(rest) = [
        "internal error: ",
        "operation failed: ",
        "Requested operation is not valid: ",
    ]
    .iter()
    .find_map(|prefix| message.strip_prefix(prefix))
    {
        message = rest;
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        assert_eq!(
            clean("internal error: process exited\n 2026: qemu:\t no\u{1b}[0m"),
            "process exited 2026: qemu: no [0m"
        );
    }

    #[test]
    fn a_long_message_is_cut() {
        assert_eq!(clean(&"ä".repeat(2000)).chars().count(), MAX_CHARS + 1);
    }
}
