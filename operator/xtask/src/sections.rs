//! A page whose sections are made by different runs: those that were not made again stay as they are.

/// A section: its title, and all that is under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Without the `## `.
    pub title: &'static str,
    /// Ends with one line feed.
    pub body: String,
}

/// The page with these sections made again, in this order of titles. What is above the first section is `head`; a section
/// whose title is not in `order` is gone.
pub fn merge(page: &str, head: &str, order: &[&str], made: &[Section]) -> String {
    let mut text = head.to_owned();
    for title in order {
        let made = made.iter().find(|section| section.title == *title);
        let Some(body) = made.map(|section| section.body.as_str()).or_else(|| body(page, title)) else {
            continue;
        };
        text.extend(["\n## ", title, "\n\n", body.trim(), "\n"]);
    }
    text
}

/// What is under a title.
fn body<'a>(page: &'a str, title: &str) -> Option<&'a str> {
    page.split("\n## ")
        .skip(1)
        .find_map(|section| section.strip_prefix(title)?.strip_prefix('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [&str; 3] = ["Starts", "Starts again", "Memory"];

    fn section(title: &'static str, body: &str) -> Section {
        Section {
            title,
            body: body.to_owned(),
        }
    }

    #[test]
    fn what_was_not_made_again_stays_and_keeps_its_place() {
        let first = merge("", "# Page\n", &ORDER, &[section("Memory", "much\n\n| a |\n")]);
        assert_eq!(first, "# Page\n\n## Memory\n\nmuch\n\n| a |\n");
        let second = merge(&first, "# Page 2\n", &ORDER, &[section("Starts again", "soon\n")]);
        assert_eq!(
            second,
            "# Page 2\n\n## Starts again\n\nsoon\n\n## Memory\n\nmuch\n\n| a |\n"
        );
        assert_eq!(merge(&second, "# Page 2\n", &ORDER, &[]), second);
    }

    #[test]
    fn a_section_that_nobody_makes_any_more_is_gone() {
        assert_eq!(merge("# Page\n\n## Old\n\ntext\n", "# Page\n", &ORDER, &[]), "# Page\n");
    }
}
