//! The mounts that containerd leaves to the guest
//! (`runtime/src/mounts/assembly.rs`). containerd makes all others on the host.

use containerd_shim_protos::protobuf::{self, Message, well_known_types::any::Any};

use crate::messages::mounts::MountCapabilities;

/// Types of mounts, and what containerd calls transforms of them.
const TYPES: [&str; 1] = ["erofs"];
const TRANSFORMS: [&str; 2] = ["format", "mkdir"];

/// The annotation that containerd 2.2 and 2.3 read, in the answer to
/// `-info`.
pub const ANNOTATION: &str = "containerd.io/runtime-allow-mounts";

pub fn annotation() -> String {
    let types = TYPES.map(str::to_owned).into_iter();
    types.chain(TRANSFORMS.map(|transform| format!("{transform}/*"))).collect::<Vec<_>>().join(",")
}

/// The message that containerd 2.4 reads, in the answer to `start`.
pub fn capabilities() -> Result<Any, protobuf::Error> {
    let capabilities = MountCapabilities {
        types: TYPES.map(str::to_owned).into(),
        transforms: TRANSFORMS.map(str::to_owned).into(),
        ..Default::default()
    };
    Ok(Any {
        type_url: "containerd.types.MountCapabilities".to_owned(),
        value: capabilities.write_to_bytes()?,
        ..Default::default()
    })
}
