//! A manifest with an operator's restriction: a request is allowed only if both allow it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use arbitrary::Arbitrary;
use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::http;
use dagster_ray_policy::kubernetes::{RequestInfo, ServiceName, Verb};
use dagster_ray_policy::manifest::{Grants, Manifest, Restriction};

use crate::structured::{read, structured};

const HTTP: [&str; 6] = [
    "address",
    "http://head.ray.svc:8265",
    "https://a.example:443",
    "https://A.example",
    "http://a.example:443",
    "http://10.0.0.1:80",
];
const GROUPS: [&str; 3] = ["", "ray.io", "batch"];
const RESOURCES: [&str; 4] = ["pods", "pods/log", "rayclusters", "secrets"];
const VERBS: [(&str, Verb); 8] = [
    ("get", Verb::Get),
    ("list", Verb::List),
    ("watch", Verb::Watch),
    ("create", Verb::Create),
    ("update", Verb::Update),
    ("patch", Verb::Patch),
    ("delete", Verb::Delete),
    ("deletecollection", Verb::DeleteCollection),
];
const NAMESPACES: [&str; 3] = ["ray", "ray-2", "kube-system"];
const PORTS: [u16; 4] = [80, 443, 8265, 10001];
const STORES: [&str; 2] = ["ray", "directory"];
const PROGRAMS: [&str; 3] = ["ray", "sh", "ray2"];
const WORDS: [&str; 4] = ["start", "--head", "stop", ""];

/// Elements of a list, by index.
type Chosen<const N: usize> = Vec<Index<N>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Index<const N: usize>(usize);

impl<'a, const N: usize> Arbitrary<'a> for Index<N> {
    fn arbitrary(source: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(usize::from(source.arbitrary::<u8>()?) % N))
    }
}

#[derive(Debug)]
struct RuleText {
    group: Index<3>,
    resources: Chosen<4>,
    verbs: Chosen<8>,
    namespaces: Option<Chosen<3>>,
}

structured!(RuleText { group, resources, verbs; namespaces });

#[derive(Debug)]
struct GrantsText {
    http: Chosen<6>,
    kubernetes: Vec<RuleText>,
    packages: bool,
    objects: Chosen<2>,
    processes: BTreeMap<Index<3>, Vec<Chosen<4>>>,
}

structured!(GrantsText { http, kubernetes, packages, objects; processes });

#[derive(Debug)]
struct Input {
    manifest: GrantsText,
    operator: Option<GrantsText>,
    memory: (u16, Option<u16>),
    seconds: (u16, Option<u16>),
}

structured!(Input { manifest, operator, memory; seconds });

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let Some(input) = read::<Input>(data) else { return };
    let limits = |memory: Option<u16>, seconds: Option<u16>| {
        let mut text = String::from("[limits]\n");
        let _ = memory.map(|memory| writeln!(text, "memory_mib = {}", u32::from(memory) + 1));
        let _ = seconds.map(|seconds| writeln!(text, "call_seconds = {}.5", seconds));
        text
    };
    let (memory, seconds) = (input.memory, input.seconds);
    let component = format!("id = 'x'\n{}{}", input.manifest.toml(), limits(Some(memory.0), Some(seconds.0)));
    let operator =
        input.operator.as_ref().map(GrantsText::toml).unwrap_or_default() + &limits(memory.1, seconds.1);
    let manifest = Manifest::parse(&component, Path::new("x.toml")).expect(&component);
    let restriction = Restriction::parse(&operator).expect(&operator);
    let restricted = manifest.clone().restricted(&restriction);

    assert!(restricted.limits.memory_mib <= manifest.limits.memory_mib);
    assert!(restricted.limits.call_seconds <= manifest.limits.call_seconds);
    if let Some(most) = memory.1 {
        assert!(restricted.limits.memory_mib <= u32::from(most) + 1);
    }
    match &restriction.grants {
        None => assert_eq!(restricted.grants, manifest.grants, "grants stay if the operator names none"),
        Some(by) => {
            requests(&restricted.grants, &manifest.grants, by);
            programs(&restricted.grants, &manifest.grants, by);
            authorities(&restricted.grants, &manifest.grants, by);
            assert_eq!(restricted.grants.packages, manifest.grants.packages && by.packages);
            for store in STORES.map(str::to_owned) {
                let held = |grants: &Grants| grants.objects.contains(&store);
                assert_eq!(held(&restricted.grants), held(&manifest.grants) && held(by));
            }
        }
    }
}

impl GrantsText {
    fn toml(&self) -> String {
        let mut text = String::from("[grants]\n");
        let _ = writeln!(text, "http = {:?}", some(&self.http, &HTTP));
        let _ = writeln!(text, "packages = {}", self.packages);
        let _ = writeln!(text, "objects = {:?}", some(&self.objects, &STORES));
        let rules: Vec<_> =
            self.kubernetes.iter().filter(|rule| rule.allows_something()).map(RuleText::toml).collect();
        let _ = writeln!(text, "kubernetes = [{}]", rules.join(", "));
        let services: Vec<_> = self.kubernetes.iter().filter_map(RuleText::service).collect();
        let _ = writeln!(text, "cluster_services = [{}]", services.join(", "));
        let _ = writeln!(text, "[grants.processes]");
        for (program, prefixes) in &self.processes {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| some(prefix, &WORDS)).collect();
            let _ = writeln!(text, "{} = {prefixes:?}", PROGRAMS[program.0]);
        }
        text
    }
}

impl RuleText {
    /// Returns whether the rule is valid. The target `manifest` tests rules that allow nothing.
    fn allows_something(&self) -> bool {
        let somewhere = self.namespaces.as_ref().is_none_or(|names| !names.is_empty());
        !self.resources.is_empty() && !self.verbs.is_empty() && somewhere
    }

    /// Returns a rule for Services from the same choices, if it is valid.
    fn service(&self) -> Option<String> {
        if !self.allows_something() {
            return None;
        }
        let ports = named_ports(&self.resources);
        Some(match &self.namespaces {
            Some(names) => format!("{{ namespaces = {:?}, ports = {ports:?} }}", some(names, &NAMESPACES)),
            None => format!("{{ ports = {ports:?} }}"),
        })
    }

    fn toml(&self) -> String {
        let verbs: Vec<_> = self.verbs.iter().map(|verb| VERBS[verb.0].0).collect();
        let namespaces = self
            .namespaces
            .as_ref()
            .map(|names| format!(", namespaces = {:?}", some(names, &NAMESPACES)))
            .unwrap_or_default();
        format!(
            "{{ group = {:?}, resources = {:?}, verbs = {verbs:?}{namespaces} }}",
            GROUPS[self.group.0],
            some(&self.resources, &RESOURCES)
        )
    }
}

fn named_ports(resources: &[Index<4>]) -> Vec<u16> {
    resources.iter().map(|index| PORTS[index.0]).collect()
}

fn some<const N: usize>(indices: &[Index<N>], all: &[&'static str; N]) -> Vec<&'static str> {
    indices.iter().map(|index| all[index.0]).collect()
}

/// Checks that a Kubernetes request is allowed exactly if both allow it.
fn requests(left: &Grants, own: &Grants, by: &Grants) {
    let namespaces = NAMESPACES.map(|name| Some(name.to_owned())).into_iter().chain([None]);
    for namespace in namespaces {
        for (group, resource) in
            GROUPS.iter().flat_map(|group| RESOURCES.map(move |resource| (*group, resource)))
        {
            for (_, verb) in VERBS {
                let info = RequestInfo {
                    verb,
                    group: group.to_owned(),
                    version: "v1".to_owned(),
                    resource: resource.to_owned(),
                    namespace: namespace.clone(),
                    name: None,
                };
                let allows = |grants: &Grants| grants.kubernetes.iter().any(|rule| rule.allows(&info));
                assert_eq!(allows(left), allows(own) && allows(by), "{info:?}");
            }
        }
    }
}

/// Checks that an allowed invocation of a program is allowed by both.
fn programs(left: &Grants, own: &Grants, by: &Grants) {
    for (program, allowed) in &left.processes {
        for prefix in &allowed.prefix {
            let longer: Vec<String> = prefix.iter().cloned().chain(["more".to_owned()]).collect();
            for arguments in [prefix, &longer] {
                assert!(allowed.allows_arguments(arguments));
                for grants in [own, by] {
                    assert!(
                        grants.processes.get(program).is_some_and(|grant| grant.allows_arguments(arguments))
                    );
                }
            }
        }
    }
}

/// Checks that a reachable authority is reachable by both.
fn authorities(left: &Grants, own: &Grants, by: &Grants) {
    let needs_http = |grants| http::CAPABILITY.is_linked(grants);
    assert!(!needs_http(left) || (needs_http(own) && needs_http(by)));
    let policy = |grants| Policy::new(grants, &[], &[], &BTreeMap::new());
    let (left, own, by) = (policy(left), policy(own), policy(by));
    for namespace in NAMESPACES {
        let service = ServiceName::new("head", namespace).expect("a name");
        for port in PORTS {
            let allows = |policy: &Policy| policy.allows_service(&service, port);
            assert_eq!(allows(&left), allows(&own) && allows(&by), "{service}:{port}");
        }
    }
    for uri in ["https://a.example/x", "https://A.example.:443", "http://a.example:443/", "http://10.0.0.1"] {
        let uri = uri.parse().expect("a URI");
        let reaches = |policy: &Policy| policy.authority(&uri).is_some();
        assert!(!reaches(&left) || (reaches(&own) && reaches(&by)), "{uri}");
    }
}
