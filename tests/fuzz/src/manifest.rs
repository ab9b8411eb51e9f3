//! A manifest and an operator's restriction, as arbitrary text: both are parsed or rejected with a message,
//! and the restricted manifest allows no more than either of them.
//!
//! The text is split at the first NUL: the manifest, then the restriction.

use std::path::Path;

use dagster_ray_policy::manifest::{Grants, Limits, Manifest, Restriction};
use dagster_ray_policy::{LoadError, Policy};

use crate::text;

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let text = text(data);
    let (manifest, restriction) = text.split_once('\0').unwrap_or((text, ""));
    let manifest = match Manifest::parse(manifest, Path::new("component.toml")) {
        Ok(manifest) => Some(manifest),
        Err(LoadError::Manifest { path, problem }) => {
            assert_eq!(path, Path::new("component.toml"));
            assert!(!problem.is_empty());
            None
        }
        Err(other) => panic!("{other}"),
    };
    let restriction = Restriction::parse(restriction).map_err(|error| assert!(!error.to_string().is_empty()));
    let Some(manifest) = manifest else { return };
    usable(&manifest);
    let Ok(restriction) = restriction else { return };
    let restricted = manifest.clone().restricted(&restriction);
    usable(&restricted);
    no_more(&restricted.grants, &manifest.grants);
    if let Some(grants) = &restriction.grants {
        no_more(&restricted.grants, grants);
    }
    lower(&restricted.limits, &manifest.limits);
    // A second restriction changes nothing.
    let again = restricted.clone().restricted(&restriction);
    no_more(&restricted.grants, &again.grants);
    no_more(&again.grants, &restricted.grants);
}

/// Checks that the policy and the limits of a manifest can be computed.
fn usable(manifest: &Manifest) {
    let _ = Policy::new(&manifest.grants, &[], &[], &Default::default());
    for follows in [false, true] {
        assert!(!manifest.limits.wall_clock(follows).is_zero());
    }
}

fn no_more(less: &Grants, more: &Grants) {
    assert!(less.http.iter().all(|entry| more.http.contains(entry)));
    assert!(less.objects.iter().all(|store| more.objects.contains(store)));
    assert!(less.keyvalue.iter().all(|bucket| more.keyvalue.contains(bucket)));
    assert!(less.networks.iter().all(|network| more.networks.contains(network)));
    assert!(more.packages || !less.packages);
    assert!(more.tasks || !less.tasks);
    for rule in &less.kubernetes {
        // A rule is covered if its intersection with the other rule is the rule itself.
        let covers = |other: &_| rule.intersection(other).as_ref() == Some(rule);
        assert!(more.kubernetes.iter().any(covers), "{rule:?}");
    }
    for (program, allowed) in &less.processes {
        // A grant is covered if its intersection with the other grant allows the same.
        let both = allowed.intersection(more.processes.get(program).expect("the program is granted"));
        assert!(allowed.prefix.iter().all(|list| both.prefix.contains(list)), "{allowed:?}");
        assert!(allowed.exact.iter().all(|list| both.exact.contains(list)), "{allowed:?}");
        assert!(allowed.env.iter().all(|name| both.env.contains(name)), "{allowed:?}");
    }
}

fn lower(less: &Limits, more: &Limits) {
    assert!(less.memory_mib <= more.memory_mib && less.table_elements <= more.table_elements);
    assert!(less.instances <= more.instances && less.handles <= more.handles);
    assert!(less.transfer_mib <= more.transfer_mib && less.response_mib <= more.response_mib);
    assert!(less.log_kib <= more.log_kib && less.stderr_kib <= more.stderr_kib);
    for follows in [false, true] {
        assert!(less.wall_clock(follows) <= more.wall_clock(follows));
    }
}
