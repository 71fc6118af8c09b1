use std::fmt;

use sha2::{Digest, Sha256};

/// Longest id of a container, pod or namespace: containerd's own limit. Longer
/// ones would not fit into the names that are made of them.
const MAX_LEN: usize = 76;

/// An id that is not taken.
#[allow(missing_docs)]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} id is empty")]
    Empty { what: &'static str },
    #[error("{what} id {id:?}... has {len} bytes, at most {MAX_LEN} are taken")]
    TooLong { what: &'static str, id: String, len: usize },
    #[error(
        "{what} id {id:?} is refused: it may hold ASCII letters, digits, '_', '-' and '.', \
         and begins and ends with a letter or digit"
    )]
    Malformed { what: &'static str, id: String },
}

/// Names a pod on this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodId {
    namespace: String,
    id: String,
}

impl PodId {
    /// Checks both names.
    pub fn new(namespace: &str, id: &str) -> Result<Self, IdError> {
        check("namespace", namespace)?;
        check("pod", id)?;
        Ok(Self { namespace: namespace.to_owned(), id: id.to_owned() })
    }

    /// containerd's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Id of the pod: of its first container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of the pod's directory: 16 hex digits, so that socket paths stay
    /// short and no id becomes a path.
    pub fn directory(&self) -> String {
        let digest = Sha256::digest(format!("{}/{}", self.namespace, self.id));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

/// Names an exec among those of its container. Not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecId(String);

impl ExecId {
    /// None for an empty text, by which containerd and the agent name the first
    /// process of a container.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        Some(text.into()).filter(|text| !text.is_empty()).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a process of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProcessRef {
    /// Id of the container.
    pub container: String,
    /// None for the first process of the container.
    pub exec: Option<ExecId>,
}

impl ProcessRef {
    /// The first process of a container.
    pub fn init(container: impl Into<String>) -> Self {
        Self { container: container.into(), exec: None }
    }

    /// The process that a request names; see [`ExecId::new`].
    pub fn named(container: impl Into<String>, exec: impl Into<String>) -> Self {
        Self { container: container.into(), exec: ExecId::new(exec) }
    }

    /// The exec id for a message, empty for the first process.
    pub fn exec_id(&self) -> &str {
        self.exec.as_ref().map_or("", ExecId::as_str)
    }
}

impl fmt::Display for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exec {
            Some(exec) => write!(f, "process {:?} of container {:?}", exec.0, self.container),
            None => write!(f, "container {:?}", self.container),
        }
    }
}

/// Checks the id of a container.
pub(crate) fn check_container(id: &str) -> Result<(), IdError> {
    check("container", id)
}

pub(crate) fn check_exec(process: &ProcessRef) -> Result<(), IdError> {
    check("exec", process.exec_id())
}

/// containerd's own rule for identifiers: `[A-Za-z0-9]+([-._][A-Za-z0-9]+)*`,
/// except that separators may follow each other.
fn check(what: &'static str, id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty { what });
    }
    if id.len() > MAX_LEN {
        let head = id.chars().take(40).collect();
        return Err(IdError::TooLong { what, id: head, len: id.len() });
    }
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let bytes = id.as_bytes();
    if !outer(bytes.first()) || !outer(bytes.last()) || !bytes.iter().copied().all(inner) {
        return Err(IdError::Malformed { what, id: id.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
