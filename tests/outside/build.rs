//! Lets the program find libtorch when it runs.
fn main() {
    if let Ok(folder) = std::env::var("DEP_TRAINYARD_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
