//! Where the policies of a pod come from: the node's file, and the one that
//! the pod's annotation names or holds.

use std::io;
use std::path::{Path, PathBuf};

use sandbox_netstack::policy::{Document, Problem, ReadError};
use sandbox_vm_spec::network::PolicySource;

use crate::config::NetworkConfig;
use crate::failure::ErrorKind;

/// Holds a pod's policy, or its name.
pub(crate) const ANNOTATION: &str = "io.sandbox.network-policy";
/// Longest name: it becomes a file's.
const MAX_NAME: usize = 64;
/// Most names that an error lists.
const MAX_LISTED: usize = 20;

/// A policy that cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the node's network policy cannot be used, so no sandbox gets a network")]
    Node(#[source] ReadError),
    #[error("the network policy {name:?} cannot be used")]
    Named { name: String, source: ReadError },
    #[error(
        "there is no network policy {name:?}: {path} does not exist; there {is}", path = path.display(),
        is = known(.names)
    )]
    Unknown { name: String, path: PathBuf, names: Vec<String> },
    #[error(
        "{0:?} is not the name of a network policy: a name has ASCII letters, digits, '.', '_' and \
         '-', begins with a letter or digit and is at most {MAX_NAME} bytes long; a policy itself \
         begins with '{{' or has a line such as version = 1"
    )]
    Name(String),
    #[error("the network policy that was given is not valid: {0}")]
    Inline(Problem),
}

impl PolicyError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Node(_) | Self::Named { .. } => ErrorKind::FailedPrecondition,
            Self::Unknown { .. } | Self::Name(_) | Self::Inline(_) => ErrorKind::InvalidArgument,
        }
    }
}

fn known(names: &[String]) -> String {
    match names {
        [] => "are none".to_owned(),
        [name] => format!("is {name}"),
        names => {
            let more = names.len().saturating_sub(MAX_LISTED);
            let listed = names[..names.len() - more].join(", ");
            if more == 0 {
                format!("are {listed}")
            } else {
                format!("are {listed} and {more} more")
            }
        }
    }
}

/// The node's policy as text; unset where there is no file.
pub(crate) fn of_node(config: &NetworkConfig) -> Result<PolicySource, PolicyError> {
    let path = config.policy_file();
    match Document::read(&path) {
        Ok((text, _)) => Ok(PolicySource::Text(text)),
        Err(error) if is_missing(&error) && !config.must_have_policy() => Ok(PolicySource::Unset),
        Err(error) => Err(PolicyError::Node(error)),
    }
}

/// A pod's policy as text, by what was asked for: a name, or the text itself.
pub(crate) fn of_pod(
    config: &NetworkConfig,
    asked: Option<&str>,
) -> Result<PolicySource, PolicyError> {
    match asked {
        None => Ok(PolicySource::Unset),
        Some(text) if is_inline(text) => {
            Document::load(text).map_err(PolicyError::Inline)?;
            Ok(PolicySource::Text(text.to_owned()))
        }
        Some(name) => named(&config.policies, name),
    }
}

fn is_inline(asked: &str) -> bool {
    asked.trim_start().starts_with('{') || asked.contains(['\n', '='])
}

fn named(dir: &Path, name: &str) -> Result<PolicySource, PolicyError> {
    if !is_name(name) {
        return Err(PolicyError::Name(name.chars().take(MAX_NAME).collect()));
    }
    let path = dir.join(format!("{name}.toml"));
    match Document::read(&path) {
        Ok((text, _)) => Ok(PolicySource::Text(text)),
        Err(error) if is_missing(&error) => {
            Err(PolicyError::Unknown { name: name.to_owned(), path, names: names(dir) })
        }
        Err(source) => Err(PolicyError::Named { name: name.to_owned(), source }),
    }
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = name.bytes().next();
    name.len() <= MAX_NAME
        && first.is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(inner)
}

fn is_missing(error: &ReadError) -> bool {
    matches!(error, ReadError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The policies that a pod may name, in their order.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".toml").map(str::to_owned))
        .filter(|name| is_name(name))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
