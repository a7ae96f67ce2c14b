//! Links without the C runtime, by a script of the kernel's own. All flags come from here, so that a
//! plain `cargo build` builds the kernel and nothing else is built differently.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    link("kernel", &format!("{root}/kernel.ld"));
    link("init", &format!("{root}/src/bin/init/init.ld"));
    println!("cargo:rerun-if-changed=build.rs");
}

/// Links the program `bin` by the linker script `script`.
fn link(bin: &str, script: &str) {
    let common = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        // rustc passes -pie before; the last one counts.
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
        "-Wl,-z,max-page-size=4096",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,--gc-sections",
    ];
    for flag in common {
        println!("cargo:rustc-link-arg-bin={bin}={flag}");
    }
    println!("cargo:rustc-link-arg-bin={bin}=-Wl,-T,{script}");
    println!("cargo:rerun-if-changed={script}");
}
