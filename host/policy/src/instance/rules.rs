//! The lists of a policy, and the fields that each list restricts.

use serde_json::Value;

use super::choice::{Choice, Source};
use super::refusal::Refusal;
use crate::schema::{self, Schema};

/// The tag of a run that overrides options.
const TAG: &str = "dagster-ray/config";

/// Fields whose value no list describes: `fields` has their names.
const OTHER: [&str; 5] = [
    "backend_grants",
    "headers",
    "cookies",
    "inherit_job_submission_client_from_ray_run_launcher",
    "ray_init_options",
];

/// Environment variables that choose what a worker connects to, the credentials and certificates of its connections,
/// or the worker's policy and keys.
const CONNECTION: [&str; 14] = [
    "CURL_CA_BUNDLE",
    "DAGSTER_HOME",
    "DAGSTER_RAY_POLICY",
    "DAGSTER_RAY_POLICY_TEXT",
    "DAGSTER_RAY_VALUE_KEYS",
    "KUBECONFIG",
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_JOB_HEADERS",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Lists that only `[launch]` may have.
const OF_LAUNCH: [&str; 3] = ["env_vars", "fields", "tag_fields"];

macro_rules! lists {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// The lists of one section. An entry `*` allows everything.
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct Rules {
            $($(#[doc = $doc])+ $name: Option<Vec<String>>,)*
        }

        impl Rules {
            /// Returns the lists by name.
            fn lists(&self) -> Vec<(&'static str, &Option<Vec<String>>)> {
                vec![$((stringify!($name), &self.$name),)*]
            }

            /// Returns the JSON schema of a section. `[launch]` has all lists.
            pub(super) fn schema(is_launch: bool) -> Value {
                let mut keys = serde_json::Map::new();
                $(
                    let name = stringify!($name);
                    if is_launch || !OF_LAUNCH.contains(&name) {
                        let key = <Vec<String> as Schema>::schema();
                        keys.insert(name.to_owned(), schema::described(key, concat!($($doc),+)));
                    }
                )*
                schema::table(keys)
            }
        }
    };
}

lists! {
    /// Backends: a name, a path, an `oci://` reference, or a prefix that ends with a slash.
    backends,
    /// SHA-256 digests. With this list, each component that is not built in needs one of them.
    digests,
    /// Files of programs for `backend_programs`, or a prefix that ends with a slash.
    programs,
    /// Addresses of Ray.
    addresses,
    /// Kubeconfig files, or directories with them.
    kube_configs,
    /// Contexts of a kubeconfig.
    contexts,
    /// Namespaces of Kubernetes.
    namespaces,
    /// Directories in which values are stored, that are uploaded, or that contain CA files.
    directories,
    /// Environment variables of the daemon that a run tag or run config may pass on by name, and variables that choose
    /// connections and credentials.
    env_vars,
    /// Other fields of run config, such as `headers` or `backend_config.image`.
    fields,
    /// Fields of the run tag `dagster-ray/config`. Without this list, all are allowed.
    tag_fields,
}

impl Rules {
    /// Returns the first list that only `[launch]` may have.
    pub(super) fn first_of_launch(&self) -> Option<&'static str> {
        let found = self.lists().into_iter();
        found.filter(|(name, list)| OF_LAUNCH.contains(name) && list.is_some()).map(|(name, _)| name).next()
    }
}

/// The rules for one source.
pub(super) enum Check<'a> {
    /// The source may choose everything.
    Nothing,
    /// The source may choose what no list restricts.
    Code(&'a Rules),
    /// The source may choose what a list has.
    Launch(&'a Rules),
}

impl Check<'_> {
    pub(super) fn check(&self, choice: &Choice, all: &[Choice]) -> Result<(), Refusal> {
        let (Self::Code(rules) | Self::Launch(rules)) = self else { return Ok(()) };
        // In the config of a resource, null replaces the value in the code.
        if choice.value.is_null() && choice.source != Source::RunConfig {
            return Ok(());
        }
        match choice.field.as_str() {
            TAG => self.tag(choice, rules),
            "backend" => {
                self.listed(choice, "backends", rules.backends.as_deref(), matches_name)?;
                self.pinned(choice, rules, all)
            }
            "backend_sha256" => self.listed(choice, "digests", rules.digests.as_deref(), matches_digest),
            "backend_programs" => self.programs(choice, rules),
            "address" => self.listed(choice, "addresses", rules.addresses.as_deref(), matches_address),
            "kube_config" => {
                self.listed(choice, "kube_configs", rules.kube_configs.as_deref(), matches_directory)
            }
            "kube_context" => self.listed(choice, "contexts", rules.contexts.as_deref(), matches_text),
            "namespace" => self.listed(choice, "namespaces", rules.namespaces.as_deref(), matches_text),
            "directory" => self.directory(choice, rules),
            "verify" if choice.value.is_string() => self.directory(choice, rules),
            "verify" => self.named(choice, "fields", rules.fields.as_deref(), &choice.field),
            "env_vars" => self.variables(choice, rules),
            "runtime_env" => self.runtime_env(choice, rules),
            "backend_config" => self.backend_config(choice, rules),
            "ray_job" | "ray_cluster" => self.object(choice, rules),
            other if OTHER.contains(&other) => {
                self.named(choice, "fields", rules.fields.as_deref(), &choice.field)
            }
            _ => Ok(()),
        }
    }

    fn tag(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        let Value::Object(fields) = &choice.value else { return Ok(()) };
        for (field, value) in fields {
            let entry = choice.entry(field, value);
            if let Some(allowed) = &rules.tag_fields {
                self.named(&entry, "tag_fields", Some(allowed), field)?;
            }
            self.check(&entry, &[])?;
        }
        Ok(())
    }

    /// Checks that a component other than a built-in one has a digest of the list `digests`.
    fn pinned(&self, choice: &Choice, rules: &Rules, all: &[Choice]) -> Result<(), Refusal> {
        let (Some(digests), Some(name)) = (&rules.digests, choice.value.as_str()) else { return Ok(()) };
        // Without this, `*` would require a digest, and then allow any.
        if digests.iter().any(|digest| digest == "*") {
            return Ok(());
        }
        let is_built_in = !name.contains(['/', '\\', '.', ':']);
        let pins = all.iter().find(|other| other.field == "backend_sha256").map(|other| &other.value);
        let digest = name.rsplit_once("@sha256:").map(|(_, digest)| digest);
        let digest = digest.or_else(|| pins.and_then(Value::as_str));
        if is_built_in || digest.is_some_and(|digest| allows(digests, digest, matches_digest)) {
            return Ok(());
        }
        let missing = "the file's sha256, and set it as `backend_sha256`";
        Err(Refusal::new(choice, "digests", digest.unwrap_or(missing)).showing(name))
    }

    fn programs(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        let Value::Object(programs) = &choice.value else {
            return self.named(choice, "programs", rules.programs.as_deref(), "*");
        };
        programs.iter().try_for_each(|(name, command)| {
            let program = command.get(0).unwrap_or(&Value::Null);
            let entry = Choice { value: program.clone(), ..choice.entry(name, command) };
            self.listed(&entry, "programs", rules.programs.as_deref(), matches_name)
        })
    }

    fn directory(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        self.listed(choice, "directories", rules.directories.as_deref(), matches_directory)
    }

    /// Checks a list of `NAME=VALUE` and `NAME`, or a mapping. A name alone reads the value from the process.
    fn variables(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        let mut names = Vec::new();
        match &choice.value {
            Value::Array(entries) => {
                for entry in entries {
                    match entry.as_str().map(|text| (text, text.split_once('='))) {
                        Some((_, Some((name, _)))) if !CONNECTION.contains(&name.trim()) => {}
                        Some((_, Some((name, _)))) => names.push(name.trim()),
                        Some((name, None)) => names.push(name),
                        // A selector such as `{env: NAME}`, whose value may be a name.
                        None => names.push("*"),
                    }
                }
            }
            Value::Object(variables) => {
                names.extend(
                    variables.keys().map(|name| name.trim()).filter(|name| CONNECTION.contains(name)),
                );
            }
            _ => {}
        }
        names.into_iter().try_for_each(|name| {
            self.named(choice, "env_vars", rules.env_vars.as_deref(), name)
                .map_err(|refusal| refusal.showing(name))
        })
    }

    /// Checks the local paths that a runtime environment uploads or reads, and its variables.
    fn runtime_env(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        if let Some(variables) = choice.value.get("env_vars") {
            self.variables(&choice.entry("env_vars", variables), rules)?;
        }
        if let Some(directory) = choice.value.get("working_dir") {
            self.upload(&choice.entry("working_dir", directory), rules)?;
        }
        if let Some(modules) = choice.value.get("py_modules") {
            let choice = choice.entry("py_modules", modules);
            for module in modules.as_array().into_iter().flatten() {
                self.upload(&Choice { value: module.clone(), ..choice.clone() }, rules)?;
            }
        }
        for field in ["pip", "uv", "conda"] {
            if let Some(value) = choice.value.get(field)
                && value.as_str().is_some_and(|text| is_environment_file(field, text))
            {
                self.directory(&choice.entry(field, value), rules)?;
            }
        }
        Ok(())
    }

    fn upload(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        match choice.value.as_str() {
            None | Some("") => Ok(()),
            Some(text) if is_remote(text) => Ok(()),
            Some(_) => self.directory(choice, rules),
        }
    }

    fn backend_config(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        let Value::Object(entries) = &choice.value else {
            return self.named(choice, "fields", rules.fields.as_deref(), &choice.field);
        };
        let fields = rules.fields.as_deref();
        entries.iter().try_for_each(|(key, value)| {
            let entry = choice.entry(key, value);
            if key == "namespace" {
                return self.check(&entry, &[]);
            }
            if fields.is_none_or(|fields| !allows(fields, &choice.field, matches_text)) {
                self.named(&entry, "fields", fields, &format!("{}.{key}", choice.field))?;
            }
            self.check(&entry, &[])
        })
    }

    /// Checks the namespace of an object of Kubernetes.
    fn object(&self, choice: &Choice, rules: &Rules) -> Result<(), Refusal> {
        let metadata = choice.value.get("metadata").and_then(|metadata| metadata.get("namespace"));
        [choice.value.get("namespace"), metadata].into_iter().flatten().try_for_each(|value| {
            let entry = choice.entry("namespace", value);
            self.listed(&entry, "namespaces", rules.namespaces.as_deref(), matches_text)
        })
    }

    /// Checks that the list has the choice's value.
    fn listed(
        &self,
        choice: &Choice,
        list: &str,
        allowed: Option<&[String]>,
        matches: fn(&str, &str) -> bool,
    ) -> Result<(), Refusal> {
        // A selector such as `{env: NAME}` is no text. Only `*` allows it.
        let text = choice.value.as_str().map_or_else(|| choice.value.to_string(), str::to_owned);
        let is_allowed = match allowed {
            None => matches!(self, Self::Code(_)),
            Some(allowed) => allows(allowed, &text, matches),
        };
        if is_allowed {
            return Ok(());
        }
        // The user information of a URL is a credential.
        if list == "addresses" && text.contains('@') {
            return Err(Refusal::new(choice, list, "<the address>"));
        }
        Err(Refusal::new(choice, list, &text).showing(&text))
    }

    /// Checks that the list has a name. The choice's value may be a credential.
    fn named(
        &self,
        choice: &Choice,
        list: &str,
        allowed: Option<&[String]>,
        name: &str,
    ) -> Result<(), Refusal> {
        let is_allowed = match allowed {
            None => matches!(self, Self::Code(_)),
            Some(allowed) => allows(allowed, name, matches_text),
        };
        if is_allowed { Ok(()) } else { Err(Refusal::new(choice, list, name)) }
    }
}

fn allows(list: &[String], value: &str, matches: fn(&str, &str) -> bool) -> bool {
    list.iter().any(|entry| entry == "*" || matches(entry, value))
}

fn matches_text(entry: &str, value: &str) -> bool {
    entry == value
}

/// Matches hexadecimal digits in either case, as the check of a file does.
fn matches_digest(entry: &str, value: &str) -> bool {
    entry.eq_ignore_ascii_case(value)
}

fn matches_address(entry: &str, value: &str) -> bool {
    entry.trim_end_matches('/').eq_ignore_ascii_case(value.trim_end_matches('/'))
}

/// Matches the name itself, or a name under an entry that ends with a slash.
fn matches_name(entry: &str, value: &str) -> bool {
    entry == value || (entry.ends_with('/') && matches_directory(entry, value))
}

/// Matches a path or URL and what is under it.
fn matches_directory(entry: &str, value: &str) -> bool {
    if entry.is_empty() {
        return false;
    }
    let entry = entry.trim_end_matches('/');
    let leaves = value.split(['/', '\\']).any(|segment| segment == "..");
    let rest = value.strip_prefix(entry);
    !leaves && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a text in a runtime environment names a file that the adapter reads, as in the adapter and in Ray
/// (`_private/runtime_env/validation.py`). Another text in `conda` is the name of an environment.
fn is_environment_file(field: &str, text: &str) -> bool {
    field != "conda" || text.ends_with(".yml") || text.ends_with(".yaml")
}

/// Whether a text has a scheme, as in the adapter and in Ray (`_private/runtime_env/packaging.py`).
fn is_remote(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|one| one.is_ascii_alphanumeric() || "+.-".contains(one))
}
