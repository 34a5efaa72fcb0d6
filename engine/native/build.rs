//! Compiles the C++ shim against libtorch's headers, and hands on where libtorch lies.
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

fn main() -> Result<(), Box<dyn error::Error>> {
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB")?);
    let include = lib.with_file_name("include");

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed={}", lib.with_file_name("build-version").display());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(true)
        .extra_warnings(true)
        .debug(false)
        // The loops need the vectoriser whatever the profile, and libtorch's own view of sqrt.
        .opt_level(3)
        .flag_if_supported("-fno-math-errno")
        .flag_if_supported("-fno-trapping-math")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .files(sources(Path::new("cpp"))?);
    if env::var("CARGO_CFG_TARGET_OS")? == "linux" {
        // Without it, libtorch's parallel loops are serial in what includes its headers.
        build.flag("-fopenmp");
    }
    build.try_compile("trainyard_native")?;
    if env::var("CARGO_CFG_TARGET_OS")? == "linux" {
        link_openmp(&lib)?;
    }

    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=libtorch_lib={}", lib.display());
    Ok(())
}

/// Links the OpenMP library that libtorch brings in `lib`, whose name differs between its builds, so that
/// the process has one pool of threads and not two; the system's where libtorch brings none.
fn link_openmp(lib: &Path) -> io::Result<()> {
    let names = fs::read_dir(lib)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<_> =
        names.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("libgomp") && name.contains(".so"));
    match names.iter().min() {
        Some(name) => {
            println!("cargo::rustc-link-search=native={}", lib.display());
            println!("cargo::rustc-link-lib=dylib:+verbatim={name}");
        }
        None => println!("cargo::rustc-link-lib=dylib=gomp"),
    }
    Ok(())
}

/// The C++ files of `folder`, by name, so that the archive is the same on every machine.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cpp"));
    files.sort();
    Ok(files)
}
