//! Shrinks core modules with Binaryen, from the Python package that bundles its library.
//!
//! The library is loaded and not linked, because compiling Binaryen takes longer than the whole build.

use std::ffi::{c_char, c_int, c_void};
use std::fs;
use std::path::PathBuf;
use std::ptr;

use anyhow::{Context as _, Result, bail};
use libloading::Library;
use sha2::{Digest as _, Sha256};

use crate::environment::Environment;
use crate::files::hex;
use crate::project::Project;

/// The levels of `wasm-opt -Oz`.
const OPTIMIZE: c_int = 2;
const SHRINK: c_int = 2;

/// `BinaryenModuleAllocateAndWriteResult` of `binaryen-c.h`.
#[repr(C)]
struct Written {
    binary: *mut c_void,
    length: usize,
    source_map: *mut c_char,
}

/// Optimizes core modules, and keeps the results in `target`.
pub(crate) struct Optimizer {
    library: Library,
    results: PathBuf,
}

impl Optimizer {
    /// Loads Binaryen from the environment of the build tools.
    pub(crate) fn load(project: &Project) -> Result<Self> {
        let (version, file) = library_file(project)?;
        // SAFETY: loading runs only the initializers of Binaryen, whose wheel is pinned by its hash.
        let library = unsafe { Library::new(&file) }
            .with_context(|| format!("{} could not be loaded", file.display()))?;
        let results = project.target().join("xtask/optimized").join(version);
        fs::create_dir_all(&results)
            .with_context(|| format!("{} could not be created", results.display()))?;
        Ok(Self { library, results })
    }

    /// Returns a smaller module with the same behavior. Function names are kept.
    pub(crate) fn optimize(&self, module: &[u8]) -> Result<Vec<u8>> {
        let result = self.results.join(format!("{}.wasm", hex(&Sha256::digest(module))));
        if let Ok(known) = fs::read(&result) {
            return Ok(known);
        }
        // SAFETY: the functions have the types of `binaryen-c.h`.
        let optimized = unsafe { optimize(&self.library, module) }?;
        // A file that was not written completely must not be read by the next build.
        let part = result.with_extension("part");
        fs::write(&part, &optimized)
            .and_then(|()| fs::rename(&part, &result))
            .with_context(|| format!("{} could not be written", result.display()))?;
        Ok(optimized)
    }
}

/// Returns the version of the package with Binaryen, and the path of the library.
fn library_file(project: &Project) -> Result<(String, PathBuf)> {
    let script = "from importlib.metadata import files, version; print(version('icpp-binaryen')); \
                  print(next(f.locate() for f in files('icpp-binaryen') if f.name == 'libbinaryen.so'))";
    let output =
        project.program(Environment::Build.program(project, "python")).args(["-c", script]).output()?;
    if !output.status.success() {
        bail!("the package icpp-binaryen has no libbinaryen.so: {}", String::from_utf8_lossy(&output.stderr));
    }
    let printed = String::from_utf8(output.stdout)?;
    let (version, file) = printed.trim().split_once('\n').context("Python printed no path of Binaryen")?;
    Ok((version.to_owned(), PathBuf::from(file)))
}

/// Optimizes a module.
///
/// # Safety
///
/// The functions of the library must have the types of `binaryen-c.h`.
unsafe fn optimize(library: &Library, module: &[u8]) -> Result<Vec<u8>> {
    type Set = unsafe extern "C" fn(c_int);
    // SAFETY: the caller guarantees the types. Binaryen copies what it reads of `module`.
    unsafe {
        library.get::<Set>(b"BinaryenSetOptimizeLevel")?(OPTIMIZE);
        library.get::<Set>(b"BinaryenSetShrinkLevel")?(SHRINK);
        library.get::<unsafe extern "C" fn(bool)>(b"BinaryenSetDebugInfo")?(true);
        let read =
            library.get::<unsafe extern "C" fn(*const u8, usize) -> *mut c_void>(b"BinaryenModuleRead")?;
        let handle = read(module.as_ptr(), module.len());
        if handle.is_null() {
            bail!("Binaryen could not read the module");
        }
        library.get::<unsafe extern "C" fn(*mut c_void)>(b"BinaryenModuleOptimize")?(handle);
        let write = library.get::<unsafe extern "C" fn(*mut c_void, *const c_char) -> Written>(
            b"BinaryenModuleAllocateAndWrite",
        )?;
        let written = write(handle, ptr::null());
        library.get::<unsafe extern "C" fn(*mut c_void)>(b"BinaryenModuleDispose")?(handle);
        if written.binary.is_null() {
            bail!("Binaryen could not write the module");
        }
        let optimized = std::slice::from_raw_parts(written.binary.cast(), written.length).to_vec();
        free(written.binary);
        free(written.source_map.cast());
        Ok(optimized)
    }
}

unsafe extern "C" {
    /// The C library's `free`: Binaryen allocates its results with `malloc`.
    fn free(memory: *mut c_void);
}
