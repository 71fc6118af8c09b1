//! Generates the messages of `proto/cri.proto`.

fn main() {
    println!("cargo:rerun-if-changed=proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/cri.proto")
        .cargo_out_dir("proto")
        .run_from_script();
}
