//! Generates the messages of `proto/`, without what only reflection needs.

use protobuf_codegen::{Codegen, Customize};

fn main() {
    println!("cargo:rerun-if-changed=proto");
    Codegen::new()
        .pure()
        .customize(Customize::default().lite_runtime(true))
        .include("proto")
        .inputs(["proto/cri.proto", "proto/mounts.proto"])
        .cargo_out_dir("proto")
        .run_from_script();
}
