//! One interface of the contract beside the same of a component.

use std::collections::HashMap;

use wasmparser::component_types::{
    AliasableResourceId, ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType,
    ComponentValType, ResourceId,
};
use wasmparser::types::TypesRef;
use wit_parser::{Function, Handle, Interface, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

/// Where a component's export is not the contract's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The function.
    pub function: String,
    /// What differs, such as ``parameter `run`: the field `tags` is missing``.
    pub problem: String,
}

pub(super) struct Comparison<'a> {
    resolve: &'a Resolve,
    types: TypesRef<'a>,
    /// The resources that the component imports, by the interface and the name it has there.
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
                    // A resource that another interface only uses keeps its first name.
                    resources.entry(id.resource()).or_insert_with(|| format!("{interface}.{name}"));
                }
            }
        }
        Self { resolve, types, resources }
    }

    pub(super) fn interface(&self, ours: &Interface, export: &str) -> Result<(), Difference> {
        let difference =
            |function: &str, problem: String| Difference { function: function.to_owned(), problem };
        let exports = match self.types.component_item_for_export(export).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => self.types.get(id).map(|instance| &instance.exports),
            _ => None,
        };
        for (name, function) in &ours.functions {
            let Some(item) = exports.and_then(|exports| exports.get(name)) else {
                return Err(difference(name, "it is missing".into()));
            };
            let ComponentEntityType::Func(id) = item.ty else {
                return Err(difference(name, "it is no function".into()));
            };
            let Some(theirs) = self.types.get(id) else {
                return Err(difference(name, "it has no type".into()));
            };
            self.function(function, theirs).map_err(|problem| difference(name, problem))?;
        }
        Ok(())
    }

    fn function(&self, ours: &Function, theirs: &ComponentFuncType) -> Differs {
        if theirs.async_ {
            return Err("it is async, and the contract is not".into());
        }
        let parameters: Vec<_> = ours.params.iter().map(|parameter| parameter.name.as_str()).collect();
        let found: Vec<_> = theirs.params.iter().map(|(name, _)| name.as_str()).collect();
        if parameters != found {
            return Err(format!(
                "its parameters are ({}), not ({})",
                found.join(", "),
                parameters.join(", ")
            ));
        }
        for (ours, (name, theirs)) in ours.params.iter().zip(&theirs.params) {
            within(&format!("parameter `{name}`"), self.value(&ours.ty, *theirs))?;
        }
        within("its result", self.optional(ours.result.as_ref(), theirs.result))
    }

    fn optional(&self, ours: Option<&Type>, theirs: Option<ComponentValType>) -> Differs {
        match (ours, theirs) {
            (None, None) => Ok(()),
            (Some(ours), Some(theirs)) => self.value(ours, theirs),
            (Some(ours), None) => Err(format!("nothing, not {}", self.name(ours))),
            (None, Some(theirs)) => Err(format!("{}, where the contract has nothing", self.name_of(theirs))),
        }
    }

    fn value(&self, ours: &Type, theirs: ComponentValType) -> Differs {
        let other = || Err(format!("{}, not {}", self.name_of(theirs), self.name(ours)));
        let Type::Id(id) = *ours else {
            return match self.primitive(theirs) {
                Some(found) if found == self.name(ours) => Ok(()),
                _ => other(),
            };
        };
        let kind = self.kind(id);
        if let TypeDefKind::Type(primitive) = kind {
            return self.value(primitive, theirs);
        }
        let ComponentValType::Type(found) = theirs else { return other() };
        let Some(found) = self.types.get(found) else { return other() };
        match (kind, found) {
            (TypeDefKind::Record(ours), ComponentDefinedType::Record(theirs)) => {
                let fields = ours.fields.iter().map(|field| field.name.as_str());
                same_names("field", fields, theirs.fields.keys().map(|name| name.as_str()))?;
                ours.fields.iter().zip(theirs.fields.values()).try_for_each(|(field, theirs)| {
                    within(&format!("field `{}`", field.name), self.value(&field.ty, *theirs))
                })
            }
            (TypeDefKind::Variant(ours), ComponentDefinedType::Variant(theirs)) => {
                let cases = ours.cases.iter().map(|case| case.name.as_str());
                same_names("case", cases, theirs.cases.keys().map(|name| name.as_str()))?;
                ours.cases.iter().zip(theirs.cases.values()).try_for_each(|(case, theirs)| {
                    within(&format!("case `{}`", case.name), self.optional(case.ty.as_ref(), theirs.ty))
                })
            }
            (TypeDefKind::Enum(ours), ComponentDefinedType::Enum(theirs)) => {
                let cases = ours.cases.iter().map(|case| case.name.as_str());
                same_names("case", cases, theirs.iter().map(|name| name.as_str()))
            }
            (TypeDefKind::Flags(ours), ComponentDefinedType::Flags(theirs)) => {
                let flags = ours.flags.iter().map(|flag| flag.name.as_str());
                same_names("flag", flags, theirs.iter().map(|name| name.as_str()))
            }
            (TypeDefKind::Tuple(ours), ComponentDefinedType::Tuple(theirs)) => {
                if ours.types.len() != theirs.types.len() {
                    return Err(format!("a tuple of {}, not of {}", theirs.types.len(), ours.types.len()));
                }
                ours.types.iter().zip(&theirs.types).enumerate().try_for_each(|(place, (ours, theirs))| {
                    within(&format!("place {place}"), self.value(ours, *theirs))
                })
            }
            (TypeDefKind::List(ours), ComponentDefinedType::List { element: theirs, .. }) => {
                within("its elements", self.value(ours, *theirs))
            }
            (TypeDefKind::Option(ours), ComponentDefinedType::Option { ty: theirs, .. }) => {
                self.value(ours, *theirs)
            }
            (TypeDefKind::Result(ours), ComponentDefinedType::Result { ok, err, .. }) => {
                within("its success", self.optional(ours.ok.as_ref(), *ok))?;
                within("its error", self.optional(ours.err.as_ref(), *err))
            }
            (TypeDefKind::Handle(Handle::Own(ours)), ComponentDefinedType::Own(theirs))
            | (TypeDefKind::Handle(Handle::Borrow(ours)), ComponentDefinedType::Borrow(theirs)) => {
                self.resource(*ours, *theirs)
            }
            _ => other(),
        }
    }

    fn resource(&self, ours: TypeId, theirs: AliasableResourceId) -> Differs {
        let ours = self.resource_name(ours);
        match self.resources.get(&theirs.resource()) {
            Some(found) if *found == ours => Ok(()),
            Some(found) => Err(format!("a handle of {found}, not of {ours}")),
            None => Err(format!("a handle of a resource of its own, not of {ours}")),
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

    /// What a type is, behind the names that other interfaces give it.
    fn kind(&self, mut id: TypeId) -> &'a TypeDefKind {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        &self.resolve.types[id].kind
    }

    fn name(&self, ours: &Type) -> String {
        match ours {
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

    fn primitive(&self, theirs: ComponentValType) -> Option<String> {
        match theirs {
            ComponentValType::Primitive(primitive) => Some(primitive.to_string()),
            ComponentValType::Type(id) => match self.types.get(id)? {
                ComponentDefinedType::Primitive(primitive) => Some(primitive.to_string()),
                _ => None,
            },
        }
    }

    fn name_of(&self, theirs: ComponentValType) -> String {
        if let Some(primitive) = self.primitive(theirs) {
            return primitive;
        }
        let ComponentValType::Type(id) = theirs else { return "a type".into() };
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

/// Names and their order: the component model compares both.
fn same_names<'n>(
    what: &str,
    ours: impl Iterator<Item = &'n str>,
    theirs: impl Iterator<Item = &'n str>,
) -> Differs {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
    if let Some(missing) = ours.iter().find(|name| !theirs.contains(name)) {
        return Err(format!("the {what} `{missing}` is missing"));
    }
    if let Some(surplus) = theirs.iter().find(|name| !ours.contains(name)) {
        return Err(format!("the {what} `{surplus}` is not in the contract"));
    }
    if ours != theirs {
        return Err(format!("its {what}s are in another order"));
    }
    Ok(())
}
