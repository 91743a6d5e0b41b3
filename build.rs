//! Compiles proto/ into OUT_DIR: messages, clients and servers of both packages, and the descriptor
//! set that reflection and the policy table are read from.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/dockctl/v1/policy.proto",
        "proto/dockctl/v1/fleet.proto",
        "proto/dockctl/v1/auth.proto",
        "proto/dockctl/v1/user.proto",
        "proto/dockctl/v1/api_token.proto",
        "proto/dockctl/v1/agent.proto",
        "proto/dockctl/v1/audit.proto",
        "proto/dockctl/v1/container.proto",
        "proto/dockctl/v1/image.proto",
        "proto/dockctl/v1/exec.proto",
        "proto/dockctl/v1/copy.proto",
        "proto/dockctl/v1/volume.proto",
        "proto/dockctl/v1/network.proto",
        "proto/dockctl/v1/forward.proto",
        "proto/dockctl/v1/docker.proto",
        "proto/dockctl/v1/system.proto",
        "proto/dockctl/link/v1/link.proto",
    ];
    println!("cargo:rerun-if-changed=proto");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files.map(|f| f.trim_start_matches("proto/")))?;
    // prost-types does not keep the method options, protox's own encoding does.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let set = prost_types::FileDescriptorSet::decode(&*compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .build_transport(false)
        .generate_default_stubs(true)
        // Holds a password; proto/lib.rs shows it without.
        .skip_debug([".dockctl.v1.RegistryLogin"])
        .bytes(".dockctl.link.v1")
        .bytes(".dockctl.v1.LogRecord.data")
        .bytes(".dockctl.v1.ExportContainerResponse.data")
        .bytes(".dockctl.v1.ExecRequest")
        .bytes(".dockctl.v1.ExecResponse")
        .bytes(".dockctl.v1.AttachRequest")
        .bytes(".dockctl.v1.AttachResponse")
        .bytes(".dockctl.v1.ReadArchiveResponse.data")
        .bytes(".dockctl.v1.WriteArchiveRequest.data")
        .bytes(".dockctl.v1.SaveImagesResponse.data")
        .bytes(".dockctl.v1.LoadImagesRequest.data")
        .bytes(".dockctl.v1.ImportImageRequest.data")
        .bytes(".dockctl.v1.BuildImageRequest.data")
        .bytes(".dockctl.v1.ForwardPortRequest.data")
        .bytes(".dockctl.v1.ForwardPortResponse.data")
        .bytes(".dockctl.v1.ConnectDockerRequest.data")
        .bytes(".dockctl.v1.ConnectDockerResponse.data")
        .compile_fds(set)?;
    Ok(())
}
