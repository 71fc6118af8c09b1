//! The request and the answer of `start`, in its three dialects.
//!
//! - containerd 2.3 and later writes a `BootstrapParams` message to stdin and
//!   reads a `BootstrapResult` message.
//! - 2.0 to 2.2 pass the same in flags and environment, with the runtime's
//!   options, an `Any`, on stdin; they read JSON.
//! - 1.6 and 1.7 ask as 2.0 does, and read a bare address: Task v2. 1.7 refuses
//!   an answer of version 3, and nothing in its question sets it apart from
//!   2.0; so its own binary is asked for its version.

use std::path::PathBuf;

use containerd_shim::Flags;
use containerd_shim_protos::bootstrap_api::{
    BootstrapParams, BootstrapResult, Extension, LogLevel,
};
use containerd_shim_protos::protobuf::{self, Message, MessageField, well_known_types::any::Any};
use serde::Serialize;
use thiserror::Error;

use crate::mounts;
use crate::options::{self, Options, OptionsError};

#[cfg(test)]
mod tests;

/// Most that is read from stdin: containerd's own bound. It stops a caller
/// that pours without end.
pub const MAX_INPUT: u64 = 10 << 20;

/// Where containerd keeps the sockets of shims by default.
pub const SOCKET_DIR: &str = "/run/containerd/s";

/// Longest directory for sockets: with `/`, 64 hex digits and the final NUL the
/// path must fit the 108 bytes of `sockaddr_un`.
pub const MAX_SOCKET_DIR: usize = 42;

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A `BootstrapResult` message: containerd 2.3 and later.
    Message,
    /// JSON, Task v3: containerd 2.0 to 2.2.
    Json,
    /// The bare address, Task v2: containerd 1.6 and 1.7.
    Bare,
}

/// The dialect, as far as the request shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialectHint {
    /// It can be only this one.
    Certain(Dialect),
    /// [`Dialect::Json`] or [`Dialect::Bare`]: the version of the caller's
    /// binary decides.
    ByVersion,
}

/// A question, whatever the dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is known of the dialect.
    pub dialect: DialectHint,
    pub namespace: String,
    pub id: String,
    /// containerd's gRPC socket; a part of the shim's socket name.
    pub grpc_address: String,
    /// Path of containerd's event socket; empty if the request has none.
    pub ttrpc_address: String,
    pub binary: PathBuf,
    /// Folder for the shim's socket.
    pub socket_dir: PathBuf,
    /// Whether to log more.
    pub debug: bool,
    pub options: Options,
}

/// What of the environment matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `TTRPC_ADDRESS`.
    pub ttrpc_address: String,
    /// `GRPC_ADDRESS`.
    pub grpc_address: String,
    /// Whether `MAX_SHIM_VERSION` is there: since containerd 1.7.
    pub has_max_version: bool,
}

impl Environment {
    /// Reads the process's environment.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).unwrap_or_default();
        Self {
            ttrpc_address: text("TTRPC_ADDRESS"),
            grpc_address: text("GRPC_ADDRESS"),
            has_max_version: std::env::var_os("MAX_SHIM_VERSION").is_some(),
        }
    }
}

/// A question that cannot be answered.
#[derive(Debug, Error)]
pub enum BootstrapError {
    #[error("-{0} is empty: containerd gives it to every shim")]
    Missing(&'static str),
    #[error(
        "the bootstrap message is for {got}, but the command line is for {expected}: \
         they must name one container"
    )]
    Mismatch { got: String, expected: String },
    #[error("stdin holds neither a bootstrap message nor runtime options")]
    Undecodable(#[source] protobuf::Error),
    #[error(
        "invalid socket directory {0:?}: it must be an absolute path of at most {MAX_SOCKET_DIR} bytes"
    )]
    SocketDir(String),
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("cannot encode the answer to start: {0}")]
    Encode(String),
}

/// Understands a question from its flags, environment and stdin.
pub fn read(flags: &Flags, env: &Environment, stdin: &[u8]) -> Result<Request, BootstrapError> {
    if flags.namespace.is_empty() {
        return Err(BootstrapError::Missing("namespace"));
    }
    if flags.id.is_empty() {
        return Err(BootstrapError::Missing("id"));
    }
    match message_for(flags, stdin)? {
        Some(params) => from_message(flags, env, params),
        None => from_flags(flags, env, stdin),
    }
}

/// The message of containerd 2.3, or none when stdin is in the older style.
///
/// Decoding does not tell the two apart: the type and the value of an
/// `Any` come out as `instance_id` and `namespace`. A message for this
/// container names it.
fn message_for(flags: &Flags, stdin: &[u8]) -> Result<Option<BootstrapParams>, BootstrapError> {
    if stdin.is_empty() {
        return Ok(None);
    }
    let Ok(params) = BootstrapParams::parse_from_bytes(stdin) else {
        return Ok(None);
    };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    let like_any = BootstrapParams {
        instance_id: params.instance_id.clone(),
        namespace: params.namespace.clone(),
        ..Default::default()
    };
    if params == like_any {
        return Ok(None);
    }
    Err(BootstrapError::Mismatch {
        got: format!("{}/{}", params.namespace, params.instance_id),
        expected: format!("{}/{}", flags.namespace, flags.id),
    })
}

fn from_message(
    flags: &Flags,
    env: &Environment,
    params: BootstrapParams,
) -> Result<Request, BootstrapError> {
    Ok(Request {
        dialect: DialectHint::Certain(Dialect::Message),
        grpc_address: first(&[&params.containerd_grpc_address, &flags.address]),
        ttrpc_address: plain(&first(&[&params.containerd_ttrpc_address, &env.ttrpc_address])),
        binary: first(&[&params.containerd_binary, &flags.publish_binary]).into(),
        socket_dir: socket_dir(params.socket_dir.as_deref())?,
        debug: flags.debug || params.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG as i32,
        options: options_in(&params)?,
        namespace: params.namespace,
        id: params.instance_id,
    })
}

/// The options among the extensions. An extension of a type that is not known
/// is ignored.
fn options_in(params: &BootstrapParams) -> Result<Options, OptionsError> {
    for extension in &params.extensions {
        match options::read(extension.value.as_ref()) {
            Ok(found) if found != Options::default() => return Ok(found),
            Ok(_) | Err(OptionsError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Options::default())
}

fn from_flags(flags: &Flags, env: &Environment, stdin: &[u8]) -> Result<Request, BootstrapError> {
    let any = Any::parse_from_bytes(stdin).map_err(BootstrapError::Undecodable)?;
    Ok(Request {
        dialect: if env.has_max_version {
            DialectHint::ByVersion
        } else {
            DialectHint::Certain(Dialect::Bare)
        },
        namespace: flags.namespace.clone(),
        id: flags.id.clone(),
        grpc_address: first(&[&flags.address, &env.grpc_address]),
        ttrpc_address: plain(&env.ttrpc_address),
        binary: flags.publish_binary.clone().into(),
        socket_dir: SOCKET_DIR.into(),
        debug: flags.debug,
        options: options::read((!stdin.is_empty()).then_some(&any))?,
    })
}

fn socket_dir(requested: Option<&str>) -> Result<PathBuf, BootstrapError> {
    let Some(dir) = requested.filter(|dir| !dir.is_empty()) else {
        return Ok(SOCKET_DIR.into());
    };
    if !dir.starts_with('/') || dir.len() > MAX_SOCKET_DIR {
        return Err(BootstrapError::SocketDir(dir.to_owned()));
    }
    Ok(dir.into())
}

fn first(candidates: &[&str]) -> String {
    let given = candidates.iter().find(|text| !text.is_empty());
    given.map(|text| (*text).to_owned()).unwrap_or_default()
}

fn plain(address: &str) -> String {
    address.strip_prefix("unix://").unwrap_or(address).to_owned()
}

/// The dialect of a containerd that prints this for `--version`: JSON from 2.0
/// on. Whatever cannot be understood gets the bare address, which all read.
pub fn dialect_of_version(output: &str) -> Dialect {
    let major = output
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('v').unwrap_or(word).split_once('.'))
        .find_map(|(major, _)| major.parse::<u32>().ok());
    match major {
        Some(2..) => Dialect::Json,
        _ => Dialect::Bare,
    }
}

/// The answer of 2.0 to 2.2.
#[derive(Serialize)]
struct JsonAnswer<'a> {
    version: i32,
    address: &'a str,
    protocol: &'a str,
}

/// The version of the task API in answers other than a bare address.
const TASK_VERSION: i32 = 3;

/// Number of `BootstrapResult.extensions`, which containerd 2.4 reads and the
/// messages that we have do not know.
const RESULT_EXTENSIONS: u32 = 6;

/// How the task API is spoken.
const PROTOCOL: &str = "ttrpc";

/// The bytes that answer `start`.
pub fn answer(dialect: Dialect, address: &str) -> Result<Vec<u8>, BootstrapError> {
    match dialect {
        Dialect::Bare => Ok(address.as_bytes().to_vec()),
        Dialect::Json => {
            serde_json::to_vec(&JsonAnswer { version: TASK_VERSION, address, protocol: PROTOCOL })
                .map_err(|error| BootstrapError::Encode(error.to_string()))
        }
        Dialect::Message => {
            message(address).map_err(|error| BootstrapError::Encode(error.to_string()))
        }
    }
}

fn message(address: &str) -> Result<Vec<u8>, protobuf::Error> {
    let mut result = BootstrapResult {
        version: TASK_VERSION,
        address: address.to_owned(),
        protocol: PROTOCOL.to_owned(),
        ..Default::default()
    };
    let extension =
        Extension { value: MessageField::some(mounts::capabilities()?), ..Default::default() };
    let fields = result.special_fields.mut_unknown_fields();
    fields.add_length_delimited(RESULT_EXTENSIONS, extension.write_to_bytes()?);
    result.write_to_bytes()
}
