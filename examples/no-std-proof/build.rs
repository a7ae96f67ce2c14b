//! Links without the C runtime and library.

fn main() {
    for flag in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,--gc-sections"]
    {
        println!("cargo:rustc-link-arg-bins={flag}");
    }
}
