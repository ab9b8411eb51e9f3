//! `dagster-ray keygen`: makes a pair of keys for signatures.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dagster_ray_runtime::signature::key_id;
use minisign::{KeyPair, PError};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Refused, Usage};
use crate::signing::{PASSWORD_VARIABLE, password};

/// Make a pair of keys to sign components with
///
/// The secret key is written to NAME.key, the public key to NAME.pub, both in the format of minisign. The
/// printed lines are those of an instance's policy, dagster-ray.toml, which then uses only components that
/// are built in or signed. The password is asked for, or read from DAGSTER_RAY_KEY_PASSWORD.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray keygen release
  dagster-ray keygen ci --no-password --json | jq -r .key")]
pub(crate) struct Arguments {
    /// The files without their ending; the last part is the key's name in the policy
    name: PathBuf,
    /// Do not protect the secret key with a password, for example because a secret store keeps it
    #[arg(long)]
    no_password: bool,
}

#[derive(Serialize)]
struct Answer {
    secret_key: PathBuf,
    public_key: PathBuf,
    id: String,
    /// The public key as the policy contains it.
    key: String,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let name = arguments.name.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_key = |name: &String| {
        !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || "-_".contains(one))
    };
    let Some(name) = name.filter(is_key) else {
        let text = format!("{}: write a name of letters, digits, - and _", arguments.name.display());
        return Err(Usage(text).into());
    };
    let failed = |error: PError| Refused(format!("the keys cannot be made: {error}"));
    let (secret_key, public_key) =
        (arguments.name.with_extension("key"), arguments.name.with_extension("pub"));
    for path in [&secret_key, &public_key] {
        if path.exists() {
            let text = format!("{} exists and is not replaced. Choose another name", path.display());
            return Err(Usage(text).into());
        }
    }
    let pair = if arguments.no_password {
        KeyPair::generate_unencrypted_keypair()
    } else {
        KeyPair::generate_encrypted_keypair(Some(new_password()?))
    };
    let pair = pair.map_err(failed)?;
    let key = pair.pk.to_base64();
    let id = key_id(&key).unwrap_or_default();
    let secret = pair.sk.to_box(Some(&format!("minisign secret key {id}"))).map_err(failed)?;
    write(&secret_key, 0o600, &secret.to_string())?;
    write(&public_key, 0o644, &format!("untrusted comment: minisign public key {id}\n{key}\n"))?;
    context.output.note(format_args!("made the secret key {}", secret_key.display()));
    let answer = Answer { secret_key, public_key, id, key };
    context.output.result(&answer, |out| writeln!(out, "[signatures.keys]\n{name} = \"{}\"", answer.key))?;
    Ok(Exit::Done)
}

fn new_password() -> anyhow::Result<String> {
    let first = password("Password of the new key: ")?;
    if first.is_empty() {
        return Err(Usage("the password is empty. Write one, or --no-password".into()).into());
    }
    if std::env::var_os(PASSWORD_VARIABLE).is_none() && password("The same password again: ")? != first {
        return Err(Usage("the passwords differ".into()).into());
    }
    Ok(first)
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", path.display()))
}
