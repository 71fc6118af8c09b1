//! Names of containers and processes.

/// Longest id, as containerd's `pkg/identifiers` has it. Ids become file and
/// cgroup names; a longer one would not fit a socket's address.
pub const MAX_ID: usize = 76;

/// An id that is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("the id is empty")]
    Empty,
    /// Longer than [`MAX_ID`].
    #[error("the id is {0} bytes long; at most {MAX_ID} are allowed")]
    TooLong(usize),
    #[error(
        "the id {0:?} is not letters and digits joined by single '.', '_' or '-' \
         (no leading or trailing one)"
    )]
    Form(String),
}

/// Checks an id by containerd's rule: `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`.
/// Nothing that passes can climb out of a directory or be read as an option.
pub fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID {
        return Err(IdError::TooLong(id.len()));
    }
    let segment = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
    if id.split(['.', '_', '-']).all(segment) { Ok(()) } else { Err(IdError::Form(id.to_owned())) }
}

#[cfg(test)]
mod tests;
