//! How are Instances wired? Only what the caller may read is looked at, in one namespace: a tenant learns nothing of
//! others.

pub mod map;
mod objects;
pub mod trace;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use kube::{Api, Client};
pub use objects::{Objects, read};
use serde::Serialize;
use virga_core::trace::{Question, Unclear, Verdict};
use virga_crds::Project;

use crate::{
    cluster::{self, call},
    flags::{MapArgs, NetCommand, Output, TraceArgs},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster can't be read.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// It is not clear what is asked.
    #[error(transparent)]
    Unclear(#[from] Unclear),
    /// Nobody can say without it.
    #[error("{0}: {1}, and without them nobody can say")]
    Unread(String, String),
    /// The answer can't be printed.
    #[error("printing")]
    Print(#[from] io::Error),
    /// The picture can't be written.
    #[error("writing {path:?}")]
    Picture {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Does what the flags say. The answer is whether a packet passes, where that was asked.
pub async fn run(command: NetCommand, out: &mut dyn Write) -> Result<Option<Verdict>, Error> {
    match command {
        NetCommand::Map(args) => draw(args, out).await.map(|()| None),
        NetCommand::Trace(args) => follow(args, out).await.map(Some),
    }
}

async fn follow(args: TraceArgs, out: &mut dyn Write) -> Result<Verdict, Error> {
    let question = Question::from(&args);
    let client = cluster::connect(args.cluster).await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let objects = read(&client, &namespace).await?;
    let answer = trace::of(&objects, &question)?;
    match args.output {
        Output::Table => trace::text(&answer, out)?,
        Output::Json => json(&answer, out)?,
    }
    Ok(answer.verdict)
}

fn json(answer: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

async fn draw(args: MapArgs, out: &mut dyn Write) -> Result<(), Error> {
    let client = cluster::connect(args.cluster).await?;
    let namespace = match (args.project, args.namespace) {
        (Some(project), _) => namespace_of(&client, project).await?,
        (None, Some(namespace)) => namespace,
        (None, None) => client.default_namespace().to_owned(),
    };
    let objects = read(&client, &namespace).await?;
    let map = map::of(&objects);
    if let Some(path) = args.svg {
        fs::write(&path, map::svg(&map)).map_err(|source| Error::Picture { path, source })?;
    }
    match args.output {
        Output::Table => map::text(&map, args.ports, out)?,
        Output::Json => json(&map, out)?,
    }
    Ok(())
}

/// The namespace of a Project. Who may not read Projects is taken at their word: most have the same name.
pub async fn namespace_of(client: &Client, project: String) -> Result<String, Error> {
    let found = call(
        &format!("Project {project}"),
        Api::<Project>::all(client.clone()).get(&project),
    )
    .await;
    match found {
        Ok(found) => Ok(found.spec.namespace.unwrap_or(project)),
        Err(error) if error.expected().is_some() => Ok(project),
        Err(error) => Err(error.into()),
    }
}
