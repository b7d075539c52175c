//! How is it said? Texts that came from elsewhere, amounts, and tables.

/// The text with what could command a terminal written out.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        let hidden = matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (char.is_control() && char != '\n') || hidden {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// At most so much of a text.
pub fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// For XML 1.0, which has no control characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            char if char.is_control() => out.push('?'),
            char => out.push(char),
        }
    }
    out
}

/// Bytes as people read them: `15.5 GiB`.
pub fn bytes(amount: u128) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = approximate(amount);
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let text = format!("{scaled:.1}");
    format!("{} {}", text.trim_end_matches(".0"), UNITS[unit])
}

/// A whole number as one that may be divided.
#[expect(
    clippy::cast_precision_loss,
    reason = "for people, who don't see the sixteenth digit"
)]
pub fn approximate(amount: u128) -> f64 {
    amount as f64
}

/// How full something is: from 0 up, above 1 where more was given out than there is to give.
pub fn fill(used: u128, limit: u128) -> f64 {
    match (used, limit) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        _ => approximate(used) / approximate(limit),
    }
}

/// `####......  40%`.
pub fn bar(fill: f64) -> String {
    const CELLS: u8 = 10;
    let percent = (fill * 100.0).round();
    let marks = (1..=CELLS)
        .filter(|cell| fill * f64::from(CELLS) + 0.5 >= f64::from(*cell))
        .count();
    let bar = "#".repeat(marks) + &".".repeat(usize::from(CELLS) - marks);
    format!("{bar} {percent:>3}%")
}

/// A table with its columns aligned, as kubectl prints them: three blanks between, nothing at the end of a line.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With this header.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self {
            rows: vec![header.into_iter().map(Into::into).collect()],
        }
    }

    /// Adds a row. What could command a terminal is written out.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter();
        self.rows
            .push(cells.map(|cell| printable(cell.as_ref()).replace('\n', " ")).collect());
    }

    /// The lines.
    pub fn print(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths);
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}", cells.join("   ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_commands_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{202e}c\ttürkçe"),
            "a\\u{1b}[31mb\\u{202e}c\\ttürkçe"
        );
        let mut table = Table::new(["NAME"]);
        table.row(["a\nb\u{7}"]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME\na b\\u{7}\n");
    }

    #[test]
    fn amounts_are_in_the_largest_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes((31 << 30) / 2), "15.5 GiB");
        assert_eq!(bytes(u128::from(u64::MAX)), "16384 PiB");
    }

    #[test]
    fn a_bar_is_never_longer_than_full() {
        assert_eq!(bar(0.0), "..........   0%");
        assert_eq!(bar(0.44), "####......  44%");
        assert_eq!(bar(1.0), "########## 100%");
        assert_eq!(bar(2.5), "########## 250%");
        assert!((fill(0, 0) - 0.0).abs() < f64::EPSILON);
        assert!((fill(1, 0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["A", "BB"]);
        table.row(["long", ""]);
        table.row(["x", "y"]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A      BB\nlong\nx      y\n");
    }
}
