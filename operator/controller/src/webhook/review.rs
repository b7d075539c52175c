//! How is an admission review read and answered? By `admission.k8s.io/v1`, so that kubectl prints every error under its
//! field.

use json_patch::PatchOperation;
use k8s_openapi::ByteString;
use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionRequest, META_API_VERSION_V1, META_KIND, Operation},
    response::{StatusCause, StatusDetails, StatusSummary},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virga_core::problem::Problems;

/// What a webhook is asked about: an object as JSON, not yet any kind of ours.
pub type Request = AdmissionRequest<DynamicObject>;

/// How many warnings are sent: the API server cuts them at 4096 bytes in all.
const MOST_WARNINGS: usize = 16;
/// The API server cuts a warning at this many characters when there are many.
const WARNING_CHARS: usize = 256;

/// What a webhook answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// Why not; `None`: it is allowed.
    pub refusal: Option<Refusal>,
    /// What the user should know either way.
    pub warnings: Vec<String>,
    /// What is changed.
    pub patch: Vec<PatchOperation>,
}

/// Why something is not allowed.
#[derive(Debug)]
pub enum Refusal {
    /// 422: the object is wrong. kubectl prints each of these under its field.
    Invalid(Problems),
    /// 403: this user, or nobody, may do it.
    Forbidden {
        /// The path of the field, or empty.
        field: String,
        /// Why, and the cure.
        message: String,
    },
}

impl Answer {
    /// Yes.
    pub fn allow() -> Self {
        Self::default()
    }

    /// No, if anything is wrong.
    pub fn of(problems: Problems) -> Self {
        Self {
            refusal: (!problems.is_empty()).then_some(Refusal::Invalid(problems)),
            ..Self::default()
        }
    }

    /// No.
    pub fn forbid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let refusal = Refusal::Forbidden {
            field: field.into(),
            message: message.into(),
        };
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    /// The same, with something that the user should know.
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// The review that goes back, as JSON.
    ///
    /// Written by hand: kube 5.0.0 writes the patch as a list of numbers, which Go happens to read; the protocol's bytes
    /// are base64.
    pub fn into_review(self, request: &Request) -> Value {
        let mut response = json!({"uid": request.uid, "allowed": self.refusal.is_none()});
        match self.refusal {
            Some(refusal) => response["status"] = json!(refusal.status(request)),
            None if self.patch.is_empty() => {}
            None => {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = json!(ByteString(json!(self.patch).to_string().into_bytes()));
            }
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(shortened(self.warnings));
        }
        json!({"apiVersion": META_API_VERSION_V1, "kind": META_KIND, "response": response})
    }
}

fn shortened(warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(MOST_WARNINGS);
    let cut = |warning: String| match warning.char_indices().nth(WARNING_CHARS - 1) {
        Some((end, _)) => format!("{}…", &warning[..end]),
        None => warning,
    };
    let mut warnings: Vec<String> = warnings.into_iter().take(MOST_WARNINGS).map(cut).collect();
    if more > 0 {
        warnings.push(format!("and {more} more"));
    }
    warnings
}

impl Refusal {
    fn status(self, request: &Request) -> Status {
        let (code, reason, causes, message) = match self {
            Self::Invalid(problems) => {
                let causes = problems
                    .iter()
                    .map(|problem| cause(&problem.field, &problem.message))
                    .collect();
                (422, "Invalid", causes, problems.to_string())
            }
            Self::Forbidden { field, message } if field.is_empty() => (403, "Forbidden", Vec::new(), message),
            Self::Forbidden { field, message } => (
                403,
                "Forbidden",
                vec![cause(&field, &message)],
                format!("{field}: {message}"),
            ),
        };
        Status {
            status: Some(StatusSummary::Failure),
            code,
            message,
            metadata: None,
            reason: reason.into(),
            details: Some(StatusDetails {
                name: name(request),
                group: request.kind.group.clone(),
                kind: request.kind.kind.clone(),
                uid: String::new(),
                causes,
                retry_after_seconds: 0,
            }),
        }
    }
}

fn cause(field: &str, message: &str) -> StatusCause {
    StatusCause {
        reason: "FieldValueInvalid".into(),
        message: message.into(),
        field: field.into(),
    }
}

fn name(request: &Request) -> String {
    let object = request.object.as_ref().or(request.old_object.as_ref());
    let generated = || object.and_then(|object| object.metadata.generate_name.clone());
    Some(request.name.clone())
        .filter(|name| !name.is_empty())
        .or_else(generated)
        .unwrap_or_default()
}

/// The object before and after, as one of our kinds.
pub struct Objects<K> {
    /// As it will be; `None` for a delete.
    pub new: Option<K>,
    /// As it is; `None` for a create.
    pub old: Option<K>,
}

/// Reads both objects. An object that can't be read is a problem of the object, not of the review: the schema should
/// have refused it, and what the schema lets through and we can't read must not be stored.
pub fn objects<K>(request: &Request) -> Result<Objects<K>, Problems>
where
    K: kube::Resource + Clone + DeserializeOwned,
{
    let read = |object: &Option<DynamicObject>| -> Result<Option<K>, Problems> {
        let Some(object) = object else { return Ok(None) };
        object.clone().try_parse().map(Some).map_err(|error| {
            let mut problems = Problems::default();
            problems.add("spec", format!("the object can't be read: {error}"));
            problems
        })
    };
    let old = match request.operation {
        // What is stored and can't be read must stay deletable and mendable.
        Operation::Delete | Operation::Update => read(&request.old_object).unwrap_or_default(),
        _ => None,
    };
    Ok(Objects {
        new: read(&request.object)?,
        old,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_many_warnings_are_cut_between_characters() {
        let warnings = shortened((0..20).map(|_| "ä".repeat(300)).collect());
        assert_eq!(warnings.len(), MOST_WARNINGS + 1);
        assert_eq!(warnings[0].chars().count(), WARNING_CHARS);
        assert!(warnings[0].ends_with('…'));
        assert_eq!(warnings[MOST_WARNINGS], "and 4 more");
        assert_eq!(shortened(vec!["short".into()]), ["short"]);
    }
}
