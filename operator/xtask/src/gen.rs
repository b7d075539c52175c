//! `cargo xtask gen`: everything that is generated and committed.

use std::{fs, path::PathBuf};

use virga_crds::{conditions::Reason, definitions};

use crate::file;

const HEADER: &str = "# Made by `cargo xtask gen` from crds/src; do not edit.\n";

/// Regenerate all that is generated, or check that it is up to date.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail when a file is stale.
    #[arg(long)]
    check: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rendering {name}")]
    Render { name: String, source: serde_yaml::Error },
    #[error(transparent)]
    File(#[from] file::Error),
    #[error("stale: {}; run `cargo xtask gen` and commit the result", files.join(", "))]
    Stale { files: Vec<String> },
}

/// Runs the command.
pub fn run(Args { check }: Args) -> Result<(), Error> {
    let root = file::checkout();
    let mut stale = Vec::new();
    for (path, text) in files()? {
        let target = root.join(&path);
        if fs::read_to_string(&target).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            file::put(&target, text)?;
            println!("wrote {}", path.display());
        }
    }
    if stale.is_empty() {
        Ok(())
    } else {
        Err(Error::Stale { files: stale })
    }
}

/// Path, from the root of the workspace, and content of each generated file.
fn files() -> Result<Vec<(PathBuf, String)>, Error> {
    let mut files = Vec::new();
    for definition in definitions::all() {
        let name = definition.spec.names.plural.clone();
        let yaml = definitions::to_yaml(&definition).map_err(|source| Error::Render {
            name: name.clone(),
            source,
        })?;
        files.push((format!("crds/yaml/{name}.yaml").into(), format!("{HEADER}{yaml}")));
        // In templates and not in crds/, which Helm never upgrades; kept on uninstall, or every guest would go with it.
        let kept = yaml.replacen(
            "metadata:\n",
            "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n",
            1,
        );
        files.push((
            format!("charts/virga/templates/crds/{name}.yaml").into(),
            format!("{HEADER}{kept}"),
        ));
    }
    files.push(("docs/conditions.md".into(), conditions_page()));
    Ok(files)
}

fn conditions_page() -> String {
    let rows = Reason::ALL
        .iter()
        .map(|reason| format!("| `{reason}` | {} |\n", reason.doc().trim()));
    let head = "# Conditions and reasons\n\n<!-- Made by `cargo xtask gen` from crds/src/conditions.rs; do not edit. -->\n\n\
                Every kind uses these reasons, in its conditions and in its events. `Ready` is the condition for people and for\n\
                `kubectl wait`; `Reconciling` and `Stalled` follow kstatus and are present only while true.\n\n\
                | reason | meaning |\n|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}
