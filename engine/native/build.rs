//! Compiles the C++ shim against libtorch's headers, and hands on where libtorch lies.
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

fn main() -> Result<(), Box<dyn error::Error>> {
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB")?);
    let include = lib.with_file_name("include");

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cpp");
    // Set-up rewrites the stamp when it adds the headers that NCCL's part needs.
    for file in ["build-version", "stamp"].map(|name| lib.with_file_name(name)) {
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
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
        // GCC 12 takes libtorch's null pointer of an empty value for one that is followed.
        .flag_if_supported("-Wno-stringop-overflow")
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None);
    for folder in [&include, &include.join("torch/csrc/api/include"), Path::new("cpp/opaque")] {
        build.flag("-isystem").flag(folder);
    }
    let nccl = build_nccl(&build, &lib)?;
    println!("cargo::rustc-check-cfg=cfg(nccl)");
    if nccl {
        println!("cargo::rustc-cfg=nccl");
    }
    build.files(groups(&sources(Path::new("cpp"))?)?);
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

/// Makes a library of its own from what speaks to NCCL, for it needs libtorch_cuda, where NCCL's and CUDA's
/// headers are: in Python packages beside torch, as a full set-up brings them. False where they are not.
fn build_nccl(common: &cc::Build, lib: &Path) -> Result<bool, Box<dyn error::Error>> {
    let Ok(torch) = fs::canonicalize(lib.join("libtorch_cpu.so")) else { return Ok(false) };
    // <packages>/torch/lib/libtorch_cpu.so
    let [Some(lib), Some(packages)] = [torch.ancestors().nth(1), torch.ancestors().nth(3)] else {
        return Ok(false);
    };
    let headers = [packages.join("nvidia/nccl/include"), packages.join("nvidia/cu13/include")];
    let there =
        headers[0].join("nccl.h").is_file() && headers[1].join("crt/host_config.h").is_file();
    if !there || !lib.join("libtorch_cuda.so").is_file() {
        return Ok(false);
    }
    let mut build = common.clone();
    build.define("USE_C10D_NCCL", None).warnings(false);
    for folder in headers {
        build.flag("-isystem").flag(folder);
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("libtrainyard_nccl.so");
    let object = build.file("cpp/nccl/nccl.cpp").try_compile_intermediates()?;
    let linked = build
        .try_get_compiler()?
        .to_command()
        .arg("-shared")
        .args(object)
        .arg("-o")
        .arg(&out)
        // Every symbol has to be in one of them now, for here nothing loads it.
        .args(["-Wl,--no-undefined", "-Wl,--allow-shlib-undefined", "-s"])
        .arg("-L")
        .arg(lib)
        .args(["-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10"])
        .status()?;
    match linked.success() {
        true => Ok(true),
        false => Err(format!("{} cannot be linked: {linked}", out.display()).into()),
    }
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

/// Files that include the sources, which are compiled in their place: of a source's ten seconds libtorch's
/// headers take eight, so they are read twice and not thirty times. TorchScript's are by far the larger ones.
fn groups(sources: &[PathBuf]) -> Result<Vec<PathBuf>, Box<dyn error::Error>> {
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let script = |source: &&PathBuf| {
        source.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with("script"))
    };
    let (scripts, others): (Vec<_>, Vec<_>) = sources.iter().partition(script);
    let mut files = Vec::new();
    for (name, group) in [("others.cpp", others), ("scripts.cpp", scripts)] {
        let include = |source: &&PathBuf| format!("#include \"{}\"\n", here.join(source).display());
        let text: String = group.iter().map(include).collect();
        let file = folder.join(name);
        fs::write(&file, text)?;
        files.push(file);
    }
    Ok(files)
}

/// The C++ files of `folder`, by name, so that the archive is the same on every machine.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cpp"));
    files.sort();
    Ok(files)
}
