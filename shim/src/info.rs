//! The answers to `-v` and `-info`.

use std::io::{self, Read, Write};

use containerd_shim_protos::protobuf::{Message, MessageField, well_known_types::any::Any};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use thiserror::Error;

use crate::bootstrap::MAX_INPUT;
use crate::mounts;
use crate::options::{self, OptionsError};

#[cfg(test)]
mod tests;

/// Name of the runtime.
pub const RUNTIME: &str = "io.sandbox.v1";

/// Name of the program, as containerd derives it from the runtime's.
pub const PROGRAM: &str = "containerd-shim-sandbox-v1";

#[derive(Debug, Error)]
pub enum InfoError {
    #[error("cannot answer -info")]
    Io(#[from] io::Error),
    #[error("cannot answer -info")]
    Message(#[from] containerd_shim_protos::protobuf::Error),
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// Prints the version for people.
pub fn version(mut out: impl Write) -> io::Result<()> {
    writeln!(out, "{PROGRAM}:\n  Version:  {}", env!("CARGO_PKG_VERSION"))
}

/// Answers containerd's question about the runtime: options `Any` in,
/// `RuntimeInfo` out.
pub fn run(input: impl Read, mut out: impl Write) -> Result<(), InfoError> {
    let mut bytes = Vec::new();
    input.take(MAX_INPUT).read_to_end(&mut bytes)?;
    let any = Any::parse_from_bytes(&bytes)?;
    let asked = (!bytes.is_empty()).then_some(any);
    options::read(asked.as_ref())?;
    let info = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }),
        options: MessageField(asked.map(Box::new)),
        annotations: [(mounts::ANNOTATION.to_owned(), mounts::annotation())].into(),
        ..Default::default()
    };
    out.write_all(&info.write_to_bytes()?)?;
    Ok(out.flush()?)
}
