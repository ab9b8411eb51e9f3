//! Signs components with secret keys in the format of minisign.

use std::path::Path;

use anyhow::Context as _;
use dagster_ray_registry::SignedManifest;
use dagster_ray_runtime::{manifest::Manifest, sha256};
use minisign::{SecretKey, SecretKeyBox};

use crate::exit::{Refused, Usage};

/// The variable with the password of a secret key, for commands without a terminal.
pub(crate) const PASSWORD_VARIABLE: &str = "DAGSTER_RAY_KEY_PASSWORD";

/// Signs the manifest of a component file, after its `sha256` was set to that of the file.
///
/// # Errors
/// If a file cannot be read, the component has no manifest, or the key is invalid.
pub(crate) fn sign(component: &Path, key: &Path) -> anyhow::Result<SignedManifest> {
    let wasm = std::fs::read(component).with_context(|| format!("{} cannot be read", component.display()))?;
    let path = Manifest::path_of(component);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!(
                "component {}: it has no manifest {}, which a signature is for. Write one, at least with the line `id = \"NAME\"`",
                component.display(),
                path.display()
            );
            return Err(Refused(text).into());
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let manifest = pinning(&text, &sha256(&wasm));
    Manifest::parse(&manifest, &path)?;
    let key = secret_key(key)?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let signature =
        minisign::sign(None, &key, manifest.as_bytes(), Some(&format!("file:{name}\thashed")), None)
            .map_err(|error| Refused(format!("the manifest cannot be signed: {error}")))?;
    Ok(SignedManifest { manifest, signature: signature.into_string() })
}

/// Reads a password from the environment, or from the terminal.
///
/// # Errors
/// If there is neither.
pub(crate) fn password(prompt: &str) -> anyhow::Result<String> {
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) => Ok(password),
        Err(_) => rpassword::prompt_password(prompt).map_err(|error| {
            let text =
                format!("the password cannot be read from the terminal: {error}. Set {PASSWORD_VARIABLE}");
            Usage(text).into()
        }),
    }
}

fn secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the key {} cannot be read", path.display()))?;
    let invalid = |error: minisign::PError| {
        anyhow::Error::from(Usage(format!(
            "the key {}: {error}. Name a secret key that `dagster-ray keygen` or `minisign -G` has made",
            path.display()
        )))
    };
    // Only the attempt tells whether the key has a password: its file has the same lines.
    match SecretKeyBox::from(text.clone()).into_unencrypted_secret_key() {
        Ok(key) => Ok(key),
        Err(_) if is_encrypted(&text) => {
            let password = password(&format!("Password of {}: ", path.display()))?;
            SecretKeyBox::from(text).into_secret_key(Some(password)).map_err(invalid)
        }
        Err(error) => Err(invalid(error)),
    }
}

/// Returns whether the secret key has a password: the bytes after the algorithm name a key derivation.
fn is_encrypted(text: &str) -> bool {
    // In base64, the four bytes `EdSc` begin with these characters.
    text.lines().nth(1).is_some_and(|line| line.starts_with("RWRTY"))
}

/// Returns a manifest with this `sha256`. Other lines stay as they are.
fn pinning(text: &str, sha256: &str) -> String {
    let line = format!("sha256 = \"{sha256}\"\n");
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    let top = lines.iter().position(|line| line.trim_start().starts_with('[')).unwrap_or(lines.len());
    let is_pin = |line: &&str| {
        line.trim_start().strip_prefix("sha256").is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    match lines[..top].iter().position(is_pin) {
        Some(place) => lines[place] = &line,
        None => lines.insert(0, &line),
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_added_or_replaced_and_other_lines_stay() {
        let added = pinning("id = 'a'  # ours\n[grants]\n", "00");
        assert_eq!(added, "sha256 = \"00\"\nid = 'a'  # ours\n[grants]\n");
        assert_eq!(pinning(&added, "00"), added);
        assert_eq!(pinning(&added, "11"), added.replace("00", "11"));
        // A program may be called sha256.
        let program = "id = 'a'\n[grants.processes]\nsha256 = [[]]\n";
        assert_eq!(pinning(program, "00"), format!("sha256 = \"00\"\n{program}"));
    }

    #[test]
    fn keys_with_a_password_are_recognized() {
        let plain = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        assert!(!is_encrypted(&plain.sk.to_box(None).unwrap().to_string()));
        let locked = minisign::KeyPair::generate_encrypted_keypair(Some("secret".into())).unwrap();
        assert!(is_encrypted(&locked.sk.to_box(None).unwrap().to_string()));
    }
}
