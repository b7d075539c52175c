//! Which objects does a list or watch want?

use serde_json::Value;

/// Label and field selectors of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    key: String,
    want: Want,
}

#[derive(Debug, Clone)]
enum Want {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    /// Parses both selectors as they stand in a query; the error is the part that is not understood.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let labels = split(labels).map(label_term).collect::<Result<_, _>>()?;
        let fields = split(fields)
            .map(|term| equality(term).ok_or_else(|| term.to_owned()))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        // A field that is not there counts as empty.
        let field = |path: &str| {
            let value = path.split('.').try_fold(object, |value, name| value.get(name));
            Some(match value {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            })
        };
        self.labels.iter().all(|term| term.holds(label(&term.key)))
            && self.fields.iter().all(|term| term.holds(field(&term.key)))
    }
}

impl Term {
    fn holds(&self, value: Option<String>) -> bool {
        match (&self.want, value) {
            (Want::In(values), Some(value)) => values.contains(&value),
            (Want::NotIn(values), Some(value)) => !values.contains(&value),
            (Want::Exists, value) => value.is_some(),
            (Want::Missing | Want::NotIn(_), None) => true,
            (Want::In(_), None) | (Want::Missing, Some(_)) => false,
        }
    }
}

/// Splits at commas that are not in parentheses.
fn split(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    selector
        .split(move |c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

fn equality(term: &str) -> Option<Term> {
    let (key, value, equal) = if let Some((key, value)) = term.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = term.split_once("==") {
        (key, value, true)
    } else {
        let (key, value) = term.split_once('=')?;
        (key, value, true)
    };
    let values = vec![value.trim().to_owned()];
    Some(Term {
        key: key.trim().to_owned(),
        want: if equal { Want::In(values) } else { Want::NotIn(values) },
    })
}

fn label_term(term: &str) -> Result<Term, String> {
    if let Some(term) = equality(term) {
        return Ok(term);
    }
    let Some((head, list)) = term.split_once('(') else {
        return Ok(match term.strip_prefix('!') {
            Some(key) => Term {
                key: key.trim().to_owned(),
                want: Want::Missing,
            },
            None => Term {
                key: term.to_owned(),
                want: Want::Exists,
            },
        });
    };
    let values = list
        .trim_end_matches(')')
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    let mut words = head.split_whitespace();
    let (key, word) = (words.next().unwrap_or_default().to_owned(), words.next());
    match word {
        Some("in") => Ok(Term {
            key,
            want: Want::In(values),
        }),
        Some("notin") => Ok(Term {
            key,
            want: Want::NotIn(values),
        }),
        _ => Err(term.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_by_label_and_field() {
        let object = json!({
            "metadata": {"name": "web", "labels": {"app": "shop", "tier": "front"}},
            "spec": {"nodeName": "n1", "size": 2},
        });
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=shop,tier!=back", "", true),
            ("app in (blog,shop),!gone", "", true),
            ("tier notin (front)", "", false),
            ("other!=x", "", true),
            ("other", "", false),
            ("", "metadata.name=web,spec.nodeName=n1", true),
            ("", "spec.nodeName!=n1", false),
            ("", "spec.size=2", true),
            ("", "spec.missing=", true),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels:?} {fields:?}");
        }
        assert_eq!(Selector::parse("", "nonsense").unwrap_err(), "nonsense");
    }
}
