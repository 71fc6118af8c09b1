//! The command line that containerd gives to a shim.
//!
//! It is parsed as Go's `flag` package does it: `-name value`, `-name=value`,
//! one dash or two, flags end at the first word that is not one.

use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

#[cfg(test)]
mod tests;

/// What containerd wants from this run of the shim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Start a shim, or find the one of the pod, and print its address.
    Start,
    /// Clean up after a shim that is gone.
    Delete,
    /// Be the shim: what `start` runs in the background.
    #[default]
    Serve,
}

/// The parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-debug`: log more.
    pub debug: bool,
    /// `-v`, `-version`: print the version and end.
    pub version: bool,
    /// `-info`: print a `RuntimeInfo` message and end.
    pub info: bool,
    /// `-namespace`: the containerd namespace.
    pub namespace: String,
    /// `-id`: the container.
    pub id: String,
    /// `-address`: containerd's gRPC socket.
    pub address: String,
    /// `-publish-binary`: the containerd that calls.
    pub publish_binary: PathBuf,
    /// `-bundle`: the bundle, where it is not the working folder.
    pub bundle: PathBuf,
    /// `-socket`: address that the shim serves; `start` gives it to the shim.
    pub socket: String,
    /// The word after the flags.
    pub action: Action,
}

/// A command line that cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FlagError {
    /// flag provided but not defined: -{0}
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// flag needs an argument: -{0}
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// invalid boolean value "{value}" for -{flag}
    #[error("invalid boolean value {value:?} for -{flag}: expected true or false")]
    NotBoolean {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
    /// argument {0:?} is not valid UTF-8
    #[error("argument {0:?} is not valid UTF-8")]
    NotUtf8(OsString),
    /// unknown action "{0}"
    #[error(
        "unknown action {0:?}: containerd calls a shim with start or delete; \
         to run a container, use ctr run --runtime io.sandbox.v1"
    )]
    Action(String),
}

/// Parses the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, FlagError> {
    let mut flags = Flags::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = utf8(arg)?;
        let Some(name) = flag_name(&arg) else {
            flags.action = action(&arg)?;
            break;
        };
        match name.split_once('=') {
            Some((name, value)) => set(&mut flags, name, Some(value.to_owned()), &mut args)?,
            None => set(&mut flags, name, None, &mut args)?,
        }
    }
    Ok(flags)
}

fn utf8(arg: OsString) -> Result<String, FlagError> {
    arg.into_string().map_err(FlagError::NotUtf8)
}

/// `-x` and `--x` are flags; `-` and words are not.
fn flag_name(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    (!name.is_empty()).then_some(name)
}

fn action(word: &str) -> Result<Action, FlagError> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        _ => Err(FlagError::Action(word.to_owned())),
    }
}

fn set(
    flags: &mut Flags,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(), FlagError> {
    match name {
        "debug" => flags.debug = boolean(name, value)?,
        "v" | "version" => flags.version = boolean(name, value)?,
        "info" => flags.info = boolean(name, value)?,
        "namespace" => flags.namespace = text(name, value, rest)?,
        "id" => flags.id = text(name, value, rest)?,
        "address" => flags.address = text(name, value, rest)?,
        "publish-binary" => flags.publish_binary = text(name, value, rest)?.into(),
        "bundle" => flags.bundle = text(name, value, rest)?.into(),
        "socket" => flags.socket = text(name, value, rest)?,
        // A second socket for Go's profiler: nothing to serve on it.
        "debug-socket" => drop(text(name, value, rest)?),
        _ => return Err(FlagError::Unknown(name.to_owned())),
    }
    Ok(())
}

fn text(
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<String, FlagError> {
    match value {
        Some(value) => Ok(value),
        None => utf8(rest.next().ok_or_else(|| FlagError::NoValue(name.to_owned()))?),
    }
}

fn boolean(name: &str, value: Option<String>) -> Result<bool, FlagError> {
    let Some(value) = value else { return Ok(true) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(FlagError::NotBoolean { flag: name.to_owned(), value }),
    }
}
