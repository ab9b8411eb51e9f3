//! The types of the contract as JSON, written in Python.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use wit_parser::{Docs, Handle, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner};

use super::layout::{
    bracketed, class_name, comment, doc_string, first_paragraph, is_keyword, snake_case, union,
};
use super::{Contract, HEADER};

/// Fields whose JSON is not derived from their type: `interface.record.field` and the type in Python.
///
/// The host writes pairs as an object there, and parses schemas (`host/runtime/src/exports.rs` and
/// `exports/io.rs`).
pub(super) const FIELDS: [(&str, &str); 3] = [
    ("describe.description.options", "dict[Role, object]"),
    ("describe.description.settings", "dict[str, str]"),
    ("io.stored.metadata", "dict[str, str]"),
];

/// A record that reaches Python in an exception: `InvalidConfigError.fields` is a list of it.
const RAISED: &str = "field-error";

/// The types that exported functions use, except errors, which the native module raises as exceptions.
pub(super) struct Types<'a> {
    pub(super) contract: &'a Contract,
    /// The named types, in an order in which each one follows those that it uses.
    used: BTreeSet<TypeId>,
    /// The named types that the host writes, and therefore writes completely.
    written: BTreeSet<TypeId>,
}

impl<'a> Types<'a> {
    /// Collects the types of all exported functions.
    pub(super) fn collect(contract: &'a Contract) -> Result<Self> {
        let mut types = Self { contract, used: BTreeSet::new(), written: BTreeSet::new() };
        let mut written = BTreeSet::new();
        for (_, id) in contract.interfaces() {
            for function in types.resolve().interfaces[id].functions.values() {
                for parameter in &function.params {
                    walk(types.resolve(), parameter.ty, &mut types.used);
                }
                if let Some(ty) = types.success(function.result) {
                    walk(types.resolve(), ty, &mut written);
                }
            }
        }
        for (id, definition) in types.resolve().types.iter() {
            if definition.name.as_deref() == Some(RAISED) && matches!(definition.kind, TypeDefKind::Record(_))
            {
                walk(types.resolve(), Type::Id(id), &mut written);
            }
        }
        types.used.extend(&written);
        types.written = written;
        types.check_names()?;
        Ok(types)
    }

    pub(super) fn resolve(&self) -> &'a Resolve {
        &self.contract.resolve
    }

    /// Returns the type that a function returns if it does not fail.
    pub(super) fn success(&self, result: Option<Type>) -> Option<Type> {
        let ty = result?;
        match self.kind(ty) {
            Some(TypeDefKind::Result(result)) => result.ok,
            _ => Some(ty),
        }
    }

    /// Returns the definition behind `use`, if the type is not primitive.
    pub(super) fn kind(&self, ty: Type) -> Option<&'a TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        Some(&self.resolve().types[origin(self.resolve(), id)].kind)
    }

    /// Returns the name of the resource that a type is a handle of.
    pub(super) fn resource(&self, ty: Type) -> Option<&'a str> {
        let Some(TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id))) = self.kind(ty) else {
            return None;
        };
        self.resolve().types[origin(self.resolve(), *id)].name.as_deref()
    }

    /// Returns a type as it is written in an annotation.
    pub(super) fn annotation(&self, ty: Type) -> Result<String> {
        let id = match ty {
            Type::Bool => return Ok("bool".into()),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::S8 | Type::S16 | Type::S32 | Type::S64 => {
                return Ok("int".into());
            }
            Type::F32 | Type::F64 => return Ok("float".into()),
            Type::Char | Type::String => return Ok("str".into()),
            Type::ErrorContext => bail!("an error context has no form in JSON"),
            Type::Id(id) => origin(self.resolve(), id),
        };
        let definition = &self.resolve().types[id];
        match &definition.name {
            Some(name) if !matches!(definition.kind, TypeDefKind::Resource) => Ok(class_name(name)),
            _ => self.structure(&definition.kind),
        }
    }

    /// Returns the annotation of a type without a name.
    fn structure(&self, kind: &TypeDefKind) -> Result<String> {
        Ok(match kind {
            TypeDefKind::Type(ty) => self.annotation(*ty)?,
            TypeDefKind::Option(ty) => format!("{} | None", self.annotation(*ty)?),
            TypeDefKind::List(ty) => format!("list[{}]", self.element(*ty)?),
            TypeDefKind::Tuple(tuple) => {
                let mut members = Vec::new();
                for ty in &tuple.types {
                    let member = self.annotation(*ty)?;
                    if !members.contains(&member) {
                        members.push(member);
                    }
                }
                // JSON has no tuples: the host reads and writes an array.
                format!("list[{}]", members.join(" | "))
            }
            other => bail!("a {} has no form in JSON", other.as_str()),
        })
    }

    /// Returns the annotation of a list's element. An element that can fail is its value or an exception.
    fn element(&self, ty: Type) -> Result<String> {
        match self.kind(ty) {
            Some(TypeDefKind::Result(wit_parser::Result_ { ok: Some(ok), err: Some(_) })) => {
                Ok(format!("{} | Exception", self.annotation(*ok)?))
            }
            _ => self.annotation(ty),
        }
    }

    /// Returns the definitions of all types that are used.
    pub(super) fn definitions(&self) -> Result<String> {
        let mut text = String::new();
        let mut follows_class = true;
        for id in &self.used {
            let definition = &self.resolve().types[*id];
            let name = definition.name.as_deref().unwrap_or_default();
            let next = self.definition(*id, definition).with_context(|| format!("the type `{name}`"))?;
            // Two empty lines surround a class.
            text.push_str(if follows_class || next.starts_with("class ") { "\n\n" } else { "\n" });
            text.push_str(&next);
            follows_class = matches!(definition.kind, TypeDefKind::Record(_));
        }
        Ok(text)
    }

    fn definition(&self, id: TypeId, definition: &TypeDef) -> Result<String> {
        let name = class_name(definition.name.as_deref().unwrap_or_default());
        let docs = first_paragraph(&definition.docs);
        match &definition.kind {
            TypeDefKind::Record(record) => {
                let path = format!(
                    "{}.{}",
                    self.interface(definition),
                    definition.name.as_deref().unwrap_or_default()
                );
                let mut fields = Vec::new();
                for field in &record.fields {
                    let path = format!("{path}.{}", field.name);
                    let known = FIELDS.iter().find(|(known, _)| *known == path);
                    let annotation = match known {
                        Some((_, annotation)) => (*annotation).to_owned(),
                        None => self.annotation(field.ty)?,
                    };
                    let can_be_absent = matches!(self.kind(field.ty), Some(TypeDefKind::Option(_)));
                    // The host reads an absent field as null, and never leaves one out.
                    let annotation = if can_be_absent && !self.written.contains(&id) {
                        format!("NotRequired[{annotation}]")
                    } else {
                        annotation
                    };
                    fields.push((field.name.as_str(), annotation, &field.docs));
                }
                class(&name, &docs, &fields)
            }
            TypeDefKind::Enum(cases) => {
                let mut text = format!("{name} = Literal[\n");
                for case in &cases.cases {
                    text.push_str(&comment(4, &first_paragraph(&case.docs)));
                    text.push_str(&format!("    \"{}\",\n", case.name));
                }
                text.push_str("]\n");
                Ok(text + &doc_string(0, &docs)?)
            }
            TypeDefKind::Variant(variant) => {
                let mut text = String::new();
                let mut members = Vec::new();
                for case in &variant.cases {
                    let Some(ty) = case.ty else {
                        members.push(format!("Literal[\"{}\"]", snake_case(&case.name)));
                        continue;
                    };
                    // The host writes an object whose only key is the case.
                    let member = name.clone() + &class_name(&case.name);
                    let fields = [(case.name.as_str(), self.annotation(ty)?, &Docs::default())];
                    text.push_str(&class(&member, &first_paragraph(&case.docs), &fields)?);
                    text.push_str("\n\n");
                    members.push(member);
                }
                text.push_str(&union(&name, &members));
                Ok(text + &doc_string(0, &docs)?)
            }
            kind => {
                let text = bracketed(0, &format!("{name} = {}", self.structure(kind)?), &[], "");
                Ok(text + &doc_string(0, &docs)?)
            }
        }
    }

    fn interface(&self, definition: &TypeDef) -> &'a str {
        match definition.owner {
            TypeOwner::Interface(id) => self.resolve().interfaces[id].name.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// Fails if two definitions of the module would have the same name.
    fn check_names(&self) -> Result<()> {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for id in &self.used {
            let definition = &self.resolve().types[*id];
            let interface = self.interface(definition);
            let name = class_name(definition.name.as_deref().unwrap_or_default());
            let is_taken = ["class ", ""].iter().any(|start| {
                HEADER.lines().any(|line| {
                    line.strip_prefix(start)
                        .and_then(|line| line.strip_prefix(name.as_str()))
                        .is_some_and(|rest| rest.starts_with(['(', ':', ' ']))
                })
            });
            ensure!(
                !is_taken,
                "the generated module itself defines `{name}`: rename the type of `{interface}`"
            );
            if let Some(other) = known.insert(name.clone(), interface) {
                bail!("`{other}` and `{interface}` both define `{name}`: rename one of the types");
            }
        }
        Ok(())
    }
}

/// Follows `use` and aliases of named types to the type that they name.
fn origin(resolve: &Resolve, mut id: TypeId) -> TypeId {
    while let TypeDefKind::Type(Type::Id(next)) = resolve.types[id].kind {
        id = next;
    }
    id
}

/// Adds the named types that a type consists of.
fn walk(resolve: &Resolve, ty: Type, found: &mut BTreeSet<TypeId>) {
    let Type::Id(id) = ty else { return };
    let id = origin(resolve, id);
    let definition = &resolve.types[id];
    if found.contains(&id) || matches!(definition.kind, TypeDefKind::Resource | TypeDefKind::Handle(_)) {
        return;
    }
    if definition.name.is_some() {
        found.insert(id);
    }
    match &definition.kind {
        TypeDefKind::Record(record) => record.fields.iter().for_each(|field| walk(resolve, field.ty, found)),
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().filter_map(|case| case.ty).for_each(|ty| walk(resolve, ty, found));
        }
        TypeDefKind::Tuple(tuple) => tuple.types.iter().for_each(|ty| walk(resolve, *ty, found)),
        TypeDefKind::Option(ty) | TypeDefKind::List(ty) | TypeDefKind::Type(ty) => walk(resolve, *ty, found),
        // The native module raises errors as exceptions.
        TypeDefKind::Result(result) => result.ok.iter().for_each(|ty| walk(resolve, *ty, found)),
        _ => {}
    }
}

fn class(name: &str, docs: &str, fields: &[(&str, String, &Docs)]) -> Result<String> {
    let mut text = format!("class {name}(TypedDict):\n");
    if !docs.is_empty() {
        text.push_str(&doc_string(4, docs)?);
        text.push('\n');
    }
    for (field, annotation, docs) in fields {
        let key = snake_case(field);
        ensure!(!is_keyword(&key), "the field `{field}` has the name of a keyword of Python");
        text.push_str(&format!("    {key}: {annotation}\n"));
        let docs = first_paragraph(docs);
        if !docs.is_empty() {
            text.push_str(&doc_string(4, &docs)?);
        }
    }
    Ok(text)
}
