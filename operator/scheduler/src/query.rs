//! The expression of the hint `query`: the language of Nova's JsonFilter.
//!
//! `["and", [">=", "$free_ram_mb", 1024], ["in", "$hypervisor_hostname", "node-1", "node-2"]]`. Operators: `=`, `<`, `>`,
//! `<=`, `>=` and `in` compare their first argument with each of the others; `not`, `or` and `and` combine. A text that
//! begins with `$` names something about the host, see [`Attribute`](crate::Attribute).
//!
//! Three differences to Nova, all towards saying what is wrong instead of guessing: an unknown name after `$` is refused
//! (Nova drops the argument), a number never compares with a text (Nova fails the whole request), and `not` inside `and`
//! or `or` negates (in Nova it gives a list there, which is always true).

use serde_json::Value as Json;

use crate::Candidate;
use crate::attribute::{Attribute, Value};
use crate::bits::Bits;
use crate::bound::Bound;
use crate::comparison::Comparison;
use crate::hosts::Hosts;

/// A query, read and checked. At most [`Query::MOST_BYTES`] long, [`Query::DEEPEST`] deep and of [`Query::MOST_NODES`]
/// parts, because tenants write it and every decision evaluates it.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub(crate) root: Node,
}

/// A part of a query that is true or false.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// The empty query.
    Always,
    Compare(Comparison, Vec<Term>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// True when one of the parts is not.
    Not(Vec<Node>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Term {
    Constant(Value<'static>),
    Of(Attribute),
}

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Not JSON.
    #[error("reading the hint query: not JSON: {0}")]
    Json(String),
    /// Too much of it.
    #[error("reading the hint query: longer than {} bytes", Query::MOST_BYTES)]
    TooLong,
    /// Too deep.
    #[error("reading the hint query: more than {} levels deep", Query::DEEPEST)]
    TooDeep,
    /// Too many parts.
    #[error("reading the hint query: more than {} parts", Query::MOST_NODES)]
    TooLarge,
    /// Something that is no expression where one has to be.
    #[error("reading the hint query: {0} is not an expression such as [\">=\", \"$free_ram_mb\", 1024]")]
    NoExpression(String),
    /// An unknown operator.
    #[error("reading the hint query: there is no operator {0:?}; there are = < > <= >= in not or and")]
    Operator(String),
    /// An unknown attribute.
    #[error("reading the hint query: a host has no {0:?}; it has {known}", known = Attribute::NAMES.join(", "))]
    Attribute(String),
    /// A comparison needs two things.
    #[error("reading the hint query: {0:?} compares its first argument with others, and there are fewer than two")]
    Arguments(String),
    /// Something that can't be compared.
    #[error("reading the hint query: {0} can't be compared: only texts, numbers, true and false can")]
    Incomparable(String),
}

fn shown(json: &Json) -> String {
    json.to_string().chars().take(64).collect()
}

impl Query {
    /// The longest query in bytes.
    pub const MOST_BYTES: usize = 4096;
    /// The deepest query.
    pub const DEEPEST: usize = 8;
    /// The most parts of a query, operators and arguments together.
    pub const MOST_NODES: usize = 128;

    /// Reads a query.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > Self::MOST_BYTES {
            return Err(QueryError::TooLong);
        }
        // serde_json itself gives up at 128 levels.
        let json: Json = serde_json::from_str(text).map_err(|error| QueryError::Json(error.to_string()))?;
        let mut nodes = 0;
        Ok(Self {
            root: node(&json, 1, &mut nodes)?,
        })
    }

    /// Whether it is true of the host.
    pub(crate) fn holds(&self, host: Candidate<'_>) -> bool {
        self.root.holds(host)
    }

    /// Keeps the hosts of which it is true.
    pub(crate) fn keep(&self, hosts: &Hosts, left: &mut Bits) {
        self.root.keep(hosts, left);
    }
}

fn count(depth: usize, nodes: &mut usize) -> Result<(), QueryError> {
    *nodes += 1;
    if depth > Query::DEEPEST {
        return Err(QueryError::TooDeep);
    }
    if *nodes > Query::MOST_NODES {
        return Err(QueryError::TooLarge);
    }
    Ok(())
}

/// A comparison of a figure in a column with numbers. `None` when it is another kind of comparison.
fn bounds(comparison: Comparison, terms: &[Term]) -> Option<Vec<Bound>> {
    let (Term::Of(Attribute::Number(number)), others) = terms.split_first()? else {
        return None;
    };
    if comparison == Comparison::In && others.len() > 1 {
        return None;
    }
    let bound = |other: &Term| match other {
        Term::Constant(Value::Number(value)) => Bound::new(*number, comparison, *value),
        _ => None,
    };
    others.iter().map(bound).collect()
}

fn node(json: &Json, depth: usize, nodes: &mut usize) -> Result<Node, QueryError> {
    count(depth, nodes)?;
    let no_expression = || QueryError::NoExpression(shown(json));
    let parts = json.as_array().ok_or_else(no_expression)?;
    let Some((operator, arguments)) = parts.split_first() else {
        return Ok(Node::Always);
    };
    let operator = operator.as_str().ok_or_else(no_expression)?;
    let comparison = match operator {
        "=" => Comparison::Equal,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "in" => Comparison::In,
        "and" | "or" | "not" => {
            let of = arguments.iter().map(|argument| node(argument, depth + 1, nodes));
            let of = of.collect::<Result<_, _>>()?;
            return Ok(match operator {
                "and" => Node::And(of),
                "or" => Node::Or(of),
                _ => Node::Not(of),
            });
        }
        _ => return Err(QueryError::Operator(operator.chars().take(32).collect())),
    };
    if arguments.len() < 2 {
        return Err(QueryError::Arguments(operator.to_owned()));
    }
    let terms = arguments.iter().map(|argument| term(argument, depth + 1, nodes));
    Ok(Node::Compare(comparison, terms.collect::<Result<_, _>>()?))
}

fn term(json: &Json, depth: usize, nodes: &mut usize) -> Result<Term, QueryError> {
    count(depth, nodes)?;
    match json {
        Json::Bool(truth) => Ok(Term::Constant(Value::Truth(*truth))),
        Json::Number(number) => number
            .as_f64()
            .map(|number| Term::Constant(Value::Number(number)))
            .ok_or_else(|| QueryError::Incomparable(shown(json))),
        Json::String(text) => match text.strip_prefix('$') {
            None => Ok(Term::Constant(Value::Text(text.clone().into()))),
            Some(path) => {
                let parts: Vec<&str> = path.split('.').collect();
                Attribute::find(&parts)
                    .map(Term::Of)
                    .ok_or_else(|| QueryError::Attribute(text.chars().take(64).collect()))
            }
        },
        _ => Err(QueryError::Incomparable(shown(json))),
    }
}

impl Node {
    /// Keeps the hosts of which it is true: by columns where it compares a figure with numbers, else one by one.
    fn keep(&self, hosts: &Hosts, left: &mut Bits) {
        match self {
            Self::Always => {}
            Self::And(parts) => {
                for part in parts {
                    part.keep(hosts, left);
                }
            }
            Self::Or(parts) => {
                let mut any = hosts.none();
                for part in parts {
                    let mut of = left.clone();
                    part.keep(hosts, &mut of);
                    any.add_all(&of);
                }
                left.keep(&any);
            }
            Self::Not(parts) => {
                let mut all = left.clone();
                for part in parts {
                    part.keep(hosts, &mut all);
                }
                left.drop_all(&all);
            }
            Self::Compare(comparison, terms) => match bounds(*comparison, terms) {
                Some(bounds) => {
                    for bound in bounds {
                        bound.keep(hosts, left);
                    }
                }
                None => left.retain(|slot| self.holds(hosts.candidate(slot))),
            },
        }
    }

    pub(crate) fn holds(&self, host: Candidate<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::And(parts) => parts.iter().all(|part| part.holds(host)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(host)),
            Self::Not(parts) => parts.iter().any(|part| !part.holds(host)),
            Self::Compare(comparison, terms) => {
                // What a host does not have is left out, as in Nova.
                let mut values = terms.iter().filter_map(|term| match term {
                    Term::Constant(value) => Some(value.clone()),
                    Term::Of(attribute) => attribute.of(host),
                });
                let Some(first) = values.next() else { return false };
                let mut others = values.peekable();
                others.peek().is_some()
                    && if *comparison == Comparison::In {
                        others.any(|other| comparison.holds_of(&first, &other))
                    } else {
                        others.all(|other| comparison.holds_of(&first, &other))
                    }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!(
            "{}{}{}",
            r#"["not", "#.repeat(levels),
            r#"["=", 1, 1]"#,
            "]".repeat(levels)
        )
    }

    #[test]
    fn what_is_no_query_is_refused_with_the_reason() {
        for (text, error) in [
            (
                "",
                QueryError::Json("EOF while parsing a value at line 1 column 0".into()),
            ),
            ("7", QueryError::NoExpression("7".into())),
            (r#"[">", 1, [2]]"#, QueryError::Incomparable("[2]".into())),
            (
                r#"["and", "$vcpus_total"]"#,
                QueryError::NoExpression(r#""$vcpus_total""#.into()),
            ),
            (r#"["~", 1, 2]"#, QueryError::Operator("~".into())),
            (r#"["=", 1]"#, QueryError::Arguments("=".into())),
            (r#"["=", "$secrets", 1]"#, QueryError::Attribute("$secrets".into())),
            (r#"["=", null, 1]"#, QueryError::Incomparable("null".into())),
        ] {
            assert_eq!(Query::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_query_is_bounded_in_length_depth_and_parts() {
        assert!(Query::parse(&nested(Query::DEEPEST - 2)).is_ok());
        assert_eq!(Query::parse(&nested(Query::DEEPEST)), Err(QueryError::TooDeep));
        assert!(matches!(Query::parse(&nested(300)), Err(QueryError::Json(_))));
        let wide = format!(r#"["in", 1{}]"#, ", 2".repeat(Query::MOST_NODES));
        assert_eq!(Query::parse(&wide), Err(QueryError::TooLarge));
        assert_eq!(
            Query::parse(&" ".repeat(Query::MOST_BYTES + 1)),
            Err(QueryError::TooLong)
        );
    }
}
