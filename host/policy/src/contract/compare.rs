//! Compares one exported interface of a component with the contract.

use std::collections::HashMap;

use wasmparser::component_types::{
    AliasableResourceId, ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType,
    ComponentValType, ResourceId,
};
use wasmparser::types::TypesRef;
use wit_parser::{Function, Handle, Interface, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

/// The first difference between a component's export and the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The function.
    pub function: String,
    /// The difference, such as ``parameter `run`: the field `tags` is missing``.
    pub problem: String,
}

pub(super) struct Comparison<'a> {
    resolve: &'a Resolve,
    types: TypesRef<'a>,
    /// The imported resources and their qualified names, such as `dagster-ray:host/reports.listener`.
    resources: HashMap<ResourceId, String>,
}

type Differs = Result<(), String>;

impl<'a> Comparison<'a> {
    pub(super) fn new(resolve: &'a Resolve, types: TypesRef<'a>, imports: &[String]) -> Self {
        let mut resources = HashMap::new();
        for import in imports {
            let interface = import.split('@').next().unwrap_or_default();
            let Some(ComponentEntityType::Instance(id)) =
                types.component_item_for_import(import).map(|item| item.ty)
            else {
                continue;
            };
            for (name, item) in types.get(id).into_iter().flat_map(|instance| &instance.exports) {
                if let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item.ty {
                    // A resource that is re-exported through `use` keeps the name of the defining interface.
                    resources.entry(id.resource()).or_insert_with(|| format!("{interface}.{name}"));
                }
            }
        }
        Self { resolve, types, resources }
    }

    pub(super) fn interface(&self, expected: &Interface, export: &str) -> Result<(), Difference> {
        let difference =
            |function: &str, problem: String| Difference { function: function.to_owned(), problem };
        let exports = match self.types.component_item_for_export(export).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => self.types.get(id).map(|instance| &instance.exports),
            _ => None,
        };
        for (name, function) in &expected.functions {
            let Some(item) = exports.and_then(|exports| exports.get(name)) else {
                return Err(difference(name, "it is missing".into()));
            };
            let ComponentEntityType::Func(id) = item.ty else {
                return Err(difference(name, "it is not a function".into()));
            };
            let Some(actual) = self.types.get(id) else {
                return Err(difference(name, "it has no type".into()));
            };
            self.function(function, actual).map_err(|problem| difference(name, problem))?;
        }
        Ok(())
    }

    fn function(&self, expected: &Function, actual: &ComponentFuncType) -> Differs {
        if actual.async_ {
            return Err("it is async, but the contract's function is not".into());
        }
        let parameters: Vec<_> = expected.params.iter().map(|parameter| parameter.name.as_str()).collect();
        let found: Vec<_> = actual.params.iter().map(|(name, _)| name.as_str()).collect();
        if parameters != found {
            return Err(format!(
                "its parameters are ({}), not ({})",
                found.join(", "),
                parameters.join(", ")
            ));
        }
        for (expected, (name, actual)) in expected.params.iter().zip(&actual.params) {
            within(&format!("parameter `{name}`"), self.value(&expected.ty, *actual))?;
        }
        within("its result", self.optional(expected.result.as_ref(), actual.result))
    }

    fn optional(&self, expected: Option<&Type>, actual: Option<ComponentValType>) -> Differs {
        match (expected, actual) {
            (None, None) => Ok(()),
            (Some(expected), Some(actual)) => self.value(expected, actual),
            (Some(expected), None) => Err(format!("nothing, not {}", self.name(expected))),
            (None, Some(actual)) => Err(format!("{}, but the contract has none", self.name_of(actual))),
        }
    }

    fn value(&self, expected: &Type, actual: ComponentValType) -> Differs {
        let other = || Err(format!("{}, not {}", self.name_of(actual), self.name(expected)));
        let Type::Id(id) = *expected else {
            return match self.primitive(actual) {
                Some(found) if found == self.name(expected) => Ok(()),
                _ => other(),
            };
        };
        let kind = self.kind(id);
        if let TypeDefKind::Type(primitive) = kind {
            return self.value(primitive, actual);
        }
        let ComponentValType::Type(found) = actual else { return other() };
        let Some(found) = self.types.get(found) else { return other() };
        match (kind, found) {
            (TypeDefKind::Record(expected), ComponentDefinedType::Record(actual)) => {
                let fields = expected.fields.iter().map(|field| field.name.as_str());
                same_names("field", fields, actual.fields.keys().map(|name| name.as_str()))?;
                expected.fields.iter().zip(actual.fields.values()).try_for_each(|(field, actual)| {
                    within(&format!("field `{}`", field.name), self.value(&field.ty, *actual))
                })
            }
            (TypeDefKind::Variant(expected), ComponentDefinedType::Variant(actual)) => {
                let cases = expected.cases.iter().map(|case| case.name.as_str());
                same_names("case", cases, actual.cases.keys().map(|name| name.as_str()))?;
                expected.cases.iter().zip(actual.cases.values()).try_for_each(|(case, actual)| {
                    within(&format!("case `{}`", case.name), self.optional(case.ty.as_ref(), actual.ty))
                })
            }
            (TypeDefKind::Enum(expected), ComponentDefinedType::Enum(actual)) => {
                let cases = expected.cases.iter().map(|case| case.name.as_str());
                same_names("case", cases, actual.iter().map(|name| name.as_str()))
            }
            (TypeDefKind::Flags(expected), ComponentDefinedType::Flags(actual)) => {
                let flags = expected.flags.iter().map(|flag| flag.name.as_str());
                same_names("flag", flags, actual.iter().map(|name| name.as_str()))
            }
            (TypeDefKind::Tuple(expected), ComponentDefinedType::Tuple(actual)) => {
                if expected.types.len() != actual.types.len() {
                    return Err(format!(
                        "a tuple of {}, not of {}",
                        actual.types.len(),
                        expected.types.len()
                    ));
                }
                expected.types.iter().zip(&actual.types).enumerate().try_for_each(
                    |(place, (expected, actual))| {
                        within(&format!("element {place}"), self.value(expected, *actual))
                    },
                )
            }
            (TypeDefKind::List(expected), ComponentDefinedType::List { element: actual, .. }) => {
                within("its elements", self.value(expected, *actual))
            }
            (TypeDefKind::Option(expected), ComponentDefinedType::Option { ty: actual, .. }) => {
                self.value(expected, *actual)
            }
            (TypeDefKind::Result(expected), ComponentDefinedType::Result { ok, err, .. }) => {
                within("its success", self.optional(expected.ok.as_ref(), *ok))?;
                within("its error", self.optional(expected.err.as_ref(), *err))
            }
            (TypeDefKind::Handle(Handle::Own(expected)), ComponentDefinedType::Own(actual))
            | (TypeDefKind::Handle(Handle::Borrow(expected)), ComponentDefinedType::Borrow(actual)) => {
                self.resource(*expected, *actual)
            }
            _ => other(),
        }
    }

    fn resource(&self, expected: TypeId, actual: AliasableResourceId) -> Differs {
        let expected = self.resource_name(expected);
        match self.resources.get(&actual.resource()) {
            Some(found) if *found == expected => Ok(()),
            Some(found) => Err(format!("a handle of {found}, not of {expected}")),
            None => Err(format!("a handle of the component's own resource, not of {expected}")),
        }
    }

    fn resource_name(&self, mut id: TypeId) -> String {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        let definition = &self.resolve.types[id];
        let name = definition.name.as_deref().unwrap_or_default();
        let TypeOwner::Interface(owner) = definition.owner else { return name.to_owned() };
        let interface = &self.resolve.interfaces[owner];
        let package = interface.package.map(|package| &self.resolve.packages[package].name);
        let (package, interface) = (package, interface.name.as_deref().unwrap_or_default());
        match package {
            Some(package) => format!("{}:{}/{interface}.{name}", package.namespace, package.name),
            None => format!("{interface}.{name}"),
        }
    }

    /// Returns the kind of a type, after resolving `use` and aliases.
    fn kind(&self, mut id: TypeId) -> &'a TypeDefKind {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        &self.resolve.types[id].kind
    }

    fn name(&self, expected: &Type) -> String {
        match expected {
            Type::Id(id) => match self.resolve.types[*id].name.as_deref() {
                Some(name) => format!("`{name}`"),
                None => article(self.resolve.types[*id].kind.as_str()),
            },
            Type::Bool => "bool".into(),
            Type::U8 => "u8".into(),
            Type::U16 => "u16".into(),
            Type::U32 => "u32".into(),
            Type::U64 => "u64".into(),
            Type::S8 => "s8".into(),
            Type::S16 => "s16".into(),
            Type::S32 => "s32".into(),
            Type::S64 => "s64".into(),
            Type::F32 => "f32".into(),
            Type::F64 => "f64".into(),
            Type::Char => "char".into(),
            Type::String => "string".into(),
            Type::ErrorContext => "error-context".into(),
        }
    }

    fn primitive(&self, actual: ComponentValType) -> Option<String> {
        match actual {
            ComponentValType::Primitive(primitive) => Some(primitive.to_string()),
            ComponentValType::Type(id) => match self.types.get(id)? {
                ComponentDefinedType::Primitive(primitive) => Some(primitive.to_string()),
                _ => None,
            },
        }
    }

    fn name_of(&self, actual: ComponentValType) -> String {
        if let Some(primitive) = self.primitive(actual) {
            return primitive;
        }
        let ComponentValType::Type(id) = actual else { return "a type".into() };
        article(match self.types.get(id) {
            Some(ComponentDefinedType::Record(_)) => "record",
            Some(ComponentDefinedType::Variant(_)) => "variant",
            Some(ComponentDefinedType::List { .. } | ComponentDefinedType::FixedLengthList { .. }) => "list",
            Some(ComponentDefinedType::Map { .. }) => "map",
            Some(ComponentDefinedType::Tuple(_)) => "tuple",
            Some(ComponentDefinedType::Flags(_)) => "set of flags",
            Some(ComponentDefinedType::Enum(_)) => "enum",
            Some(ComponentDefinedType::Option { .. }) => "option",
            Some(ComponentDefinedType::Result { .. }) => "result",
            Some(ComponentDefinedType::Own(_)) => "owned handle",
            Some(ComponentDefinedType::Borrow(_)) => "borrowed handle",
            Some(ComponentDefinedType::Future { .. }) => "future",
            Some(ComponentDefinedType::Stream { .. }) => "stream",
            _ => "type",
        })
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn within(place: &str, differs: Differs) -> Differs {
    differs.map_err(|problem| format!("{place}: {problem}"))
}

/// Compares names and their order, as the component model does.
fn same_names<'n>(
    what: &str,
    expected: impl Iterator<Item = &'n str>,
    actual: impl Iterator<Item = &'n str>,
) -> Differs {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.collect(), actual.collect());
    if let Some(missing) = expected.iter().find(|name| !actual.contains(name)) {
        return Err(format!("the {what} `{missing}` is missing"));
    }
    if let Some(surplus) = actual.iter().find(|name| !expected.contains(name)) {
        return Err(format!("the {what} `{surplus}` is not in the contract"));
    }
    if expected != actual {
        return Err(format!("its {what}s are in a different order"));
    }
    Ok(())
}
