use minisign::{KeyPair, SignatureBox};

use super::*;
use crate::instance::InstancePolicy;
use crate::manifest::Restriction;
use crate::sha256;

const MANIFEST: &str = "id = 'ours'\nsha256 = '00'\n[grants]\nhttp = ['address']\n";

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn sign(key: &KeyPair, text: &str) -> String {
    let signed: SignatureBox =
        minisign::sign(None, &key.sk, text.as_bytes(), Some("ours.toml"), None).unwrap();
    signed.into_string()
}

/// Returns the keys of a policy that trusts these keys under the names `first`, `second`, ….
fn trusting(keys: &[&KeyPair]) -> TrustedKeys {
    let names = ["first", "second"];
    let lines = names.iter().zip(keys).map(|(name, key)| format!("{name} = '{}'\n", key.pk.to_base64()));
    let text = format!("[signatures.keys]\n{}", lines.collect::<String>());
    InstancePolicy::parse(&text, "/home/dagster-ray.toml").unwrap().trusted_keys().unwrap().clone()
}

fn refusal(trusted: &TrustedKeys, manifest: Option<&str>, signature: Option<&str>) -> String {
    trusted.verify(&Subject::file(Path::new("/opt/ours.wasm")), manifest, signature).unwrap_err().to_string()
}

fn id(key: &KeyPair) -> String {
    key_id(&key.pk.to_base64()).unwrap()
}

#[test]
fn a_manifest_that_a_trusted_key_signed_is_accepted() {
    let (old, new) = (key(), key());
    let trusted = trusting(&[&old, &new]);
    for key in [&old, &new] {
        let signature = sign(key, MANIFEST);
        let manifest =
            trusted.verify(&Subject::artifact("oci://x/a"), Some(MANIFEST), Some(&signature)).unwrap();
        assert_eq!(manifest.sha256.as_deref(), Some("00"));
    }
    assert_eq!(trusted.signer(MANIFEST, &sign(&new, MANIFEST)), Some("second"));
    assert_eq!(trusted.signer("id = 'x'", &sign(&new, MANIFEST)), None);
}

#[test]
fn key_ids_are_those_that_minisign_prints() {
    let pair = key();
    let signature = sign(&pair, MANIFEST);
    let printed = format!("{:016X}", u64::from_le_bytes(pair.pk.keynum().try_into().unwrap()));
    assert_eq!(id(&pair), printed);
    assert_eq!(signature.lines().nth(1).and_then(key_id).unwrap(), printed);
}

#[test]
fn an_unsigned_component_is_refused_with_the_file_the_keys_and_the_command() {
    let pair = key();
    let trusted = trusting(&[&pair]);
    let text = refusal(&trusted, Some(MANIFEST), None);
    for part in [
        "/opt/ours.wasm",
        "/opt/ours.toml.minisig",
        "/home/dagster-ray.toml",
        "first",
        &id(&pair),
        "dagster-ray sign",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(refusal(&trusted, None, None).contains("no manifest"));
    assert!(refusal(&trusting(&[]), Some(MANIFEST), None).contains("only built-in components"));
}

#[test]
fn a_changed_manifest_or_comment_is_refused() {
    let pair = key();
    let trusted = trusting(&[&pair]);
    let signature = sign(&pair, MANIFEST);
    let granted = MANIFEST.replace("address", "http://evil:80");
    assert!(refusal(&trusted, Some(&granted), Some(&signature)).contains("was changed"));
    let renamed = signature.replace("ours.toml", "else.toml");
    assert!(refusal(&trusted, Some(MANIFEST), Some(&renamed)).contains("was changed"));
    for broken in ["", "untrusted comment: x\nRW", &signature[..signature.len() / 2]] {
        let text = refusal(&trusted, Some(MANIFEST), Some(broken));
        assert!(text.contains("not in the format of minisign"), "{text}");
    }
}

#[test]
fn another_key_is_refused_also_if_it_claims_the_id_of_a_trusted_one() {
    let (ours, other) = (key(), key());
    let trusted = trusting(&[&ours]);
    let signature = sign(&other, MANIFEST);
    let text = refusal(&trusted, Some(MANIFEST), Some(&signature));
    assert!(text.contains(&id(&other)) && text.contains(&id(&ours)), "{text}");
    assert!(text.contains("[signatures.keys]"), "{text}");

    let line = signature.lines().nth(1).unwrap();
    let mut bytes = BASE64_STANDARD.decode(line).unwrap();
    bytes[2..10].copy_from_slice(ours.pk.keynum());
    let forged = signature.replace(line, &BASE64_STANDARD.encode(bytes));
    assert!(refusal(&trusted, Some(MANIFEST), Some(&forged)).contains("was changed"));
}

#[test]
fn a_signed_manifest_must_pin_the_component() {
    let pair = key();
    let bare = "id = 'ours'";
    let text = refusal(&trusting(&[&pair]), Some(bare), Some(&sign(&pair, bare)));
    assert!(text.contains("has no sha256") && text.contains("dagster-ray sign"), "{text}");
}

#[test]
fn the_files_beside_a_component_are_read() {
    let pair = key();
    let trusted = trusting(&[&pair]);
    let folder = tempfile::tempdir().unwrap();
    let wasm = folder.path().join("ours.wasm");
    std::fs::write(&wasm, "code").unwrap();
    let check = || crate::check(&wasm, &Restriction::default(), None, Some(&trusted)).unwrap_err();
    assert!(matches!(check(), LoadError::Signature { .. }));

    // The signature is valid, so that the next check fails: the text is no component.
    let manifest = format!("id = 'ours'\nsha256 = '{}'", sha256(b"code"));
    std::fs::write(wasm.with_extension("toml"), &manifest).unwrap();
    std::fs::write(signature_path(&wasm), sign(&pair, &manifest)).unwrap();
    assert!(matches!(check(), LoadError::NotAComponent { .. }), "{}", check());
    std::fs::write(&wasm, "changed").unwrap();
    assert!(matches!(check(), LoadError::Digest { .. }), "{}", check());

    std::fs::write(signature_path(&wasm), "x".repeat(5000)).unwrap();
    assert!(check().to_string().contains("longer than"), "{}", check());
}

#[test]
fn a_policy_with_an_invalid_key_names_it() {
    for text in ["[signatures]", "[signatures.keys]\nours = 'RW'", "[signatures]\nkeys = {}\nrequired = true"]
    {
        assert!(InstancePolicy::parse(text, "p.toml").is_err(), "{text}");
    }
    let error = InstancePolicy::parse("[signatures.keys]\nours = 'RWx'", "p.toml").unwrap_err().to_string();
    assert!(error.contains("p.toml") && error.contains("\"ours\"") && error.contains(".pub"), "{error}");
    assert!(InstancePolicy::parse("[launch]", "p").unwrap().trusted_keys().is_none());
}
