//! Runtime options: what containerd's configuration or a client attaches to a
//! container for its runtime.

use containerd_shim_protos::protobuf::{CodedInputStream, Message, well_known_types::any::Any};
use containerd_shim_protos::shim::oci;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// `ConfigPath` and nothing else is used of `runtimeoptions.v1.Options`.
const CONFIG_PATH_FIELD: u32 = 2;

/// What the options ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Configuration file to use in place of the default one.
    pub config_path: Option<String>,
    /// Cgroup that the shim is to live in.
    pub shim_cgroup: Option<String>,
}

/// Options that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    #[error(
        "runtime options are of type {0:?}, which io.sandbox.v1 does not know: \
         leave them out, or give runtimeoptions.v1.Options or containerd.runc.v1.Options"
    )]
    Unknown(String),
    #[error("runtime options claim to be {type_name} but cannot be decoded: {reason}")]
    Malformed { type_name: String, reason: String },
}

/// Reads the options that come with `start`, `-info` or Create; none are fine.
pub fn read(any: Option<&Any>) -> Result<Options, OptionsError> {
    let Some(any) = any else {
        return Ok(Options::default());
    };
    // containerd writes the bare name, protobuf libraries put a host before it.
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    match name {
        "" if any.value.is_empty() => Ok(Options::default()),
        "runtimeoptions.v1.Options" | "cri.runtimeoptions.v1.Options" => {
            runtime_options(&any.value).map_err(|reason| malformed(name, &reason))
        }
        "containerd.runc.v1.Options" => {
            runc_options(&any.value).map_err(|reason| malformed(name, &reason))
        }
        _ => Err(OptionsError::Unknown(any.type_url.clone())),
    }
}

fn malformed(type_name: &str, reason: &containerd_shim_protos::protobuf::Error) -> OptionsError {
    OptionsError::Malformed { type_name: type_name.to_owned(), reason: reason.to_string() }
}

type Decoded = Result<Options, containerd_shim_protos::protobuf::Error>;

/// Decodes by hand: the message is in none of the crates, and one field of it
/// is of use.
fn runtime_options(bytes: &[u8]) -> Decoded {
    let mut options = Options::default();
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        let (field, wire) = (tag >> 3, tag & 7);
        if field == CONFIG_PATH_FIELD && wire == 2 {
            options.config_path = given(input.read_string()?);
        } else {
            containerd_shim_protos::protobuf::rt::skip_field_for_tag(tag, &mut input)?;
        }
    }
    Ok(options)
}

fn runc_options(bytes: &[u8]) -> Decoded {
    let runc = oci::Options::parse_from_bytes(bytes)?;
    Ok(Options { shim_cgroup: given(runc.shim_cgroup), ..Options::default() })
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
