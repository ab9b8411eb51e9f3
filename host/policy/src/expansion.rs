//! Bounds the work of compiling a component: how many instances it expands to, and the size of its functions.
//!
//! A file of a few kilobytes can instantiate a component a thousand times, which does the same with another one.
//! Compilation expands all of them, so they are counted before it.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

/// Maximum number of instances of components and of core modules, all levels together. A Python component has
/// about 80.
const MAX_INSTANCES: u64 = 1_000;
/// Maximum size of one function, in bytes. The time and memory of compiling a function grow faster than its size.
/// The largest one of a Python component has 430 KB.
const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// The instances that one component expands to. `None` if another component decides it.
type Instances = Option<u64>;

/// A component or core module while it is read.
#[derive(Default)]
struct Level {
    instances: u64,
    /// The component index space.
    components: Vec<Instances>,
    is_component: bool,
}

/// Returns what makes a component too expensive to compile, or none. The bytes must be valid.
pub(crate) fn problem(bytes: &[u8]) -> Result<Option<String>, BinaryReaderError> {
    let mut levels: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding, .. } => {
                levels.push(Level { is_component: encoding == Encoding::Component, ..Level::default() });
            }
            Payload::End(_) => {
                let ended = levels.pop().filter(|ended| ended.is_component);
                if let (Some(ended), Some(parent)) = (ended, levels.last_mut()) {
                    parent.components.push(Some(ended.instances));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let aliased = match alias? {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => None,
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            let outer = levels.iter().rev().nth(count as usize);
                            outer.and_then(|outer| outer.known(index))
                        }
                        _ => continue,
                    };
                    if let Some(level) = levels.last_mut() {
                        level.components.push(aliased);
                    }
                }
            }
            payload => {
                if let Some(level) = levels.last_mut()
                    && let Some(problem) = level.read(payload)?
                {
                    return Ok(Some(problem));
                }
            }
        }
    }
    Ok(None)
}

impl Level {
    /// Reads a section of this component or core module. Returns what exceeds a limit.
    fn read(&mut self, payload: Payload<'_>) -> Result<Option<String>, BinaryReaderError> {
        match payload {
            Payload::CodeSectionEntry(body) if body.range().len() > MAX_FUNCTION_BYTES => {
                return Ok(Some(format!(
                    "it has a function of {} bytes, more than the limit of {MAX_FUNCTION_BYTES}. Split the function",
                    body.range().len()
                )));
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if let ComponentTypeRef::Component(_) = import?.ty {
                        self.components.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        self.components.push(self.known(export.index));
                    }
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    if let Instance::Instantiate { .. } = instance? {
                        self.instances += 1;
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    let ComponentInstance::Instantiate { component_index, .. } = instance? else { continue };
                    let Some(inner) = self.known(component_index) else {
                        return Ok(Some(
                            "it instantiates a component that another component passes to it. Instantiate components of the same file"
                                .to_owned(),
                        ));
                    };
                    self.instances = self.instances.saturating_add(inner).saturating_add(1);
                }
            }
            _ => {}
        }
        Ok((self.instances > MAX_INSTANCES).then(|| {
            format!(
                "it expands to more than {MAX_INSTANCES} instances, the limit. Instantiate fewer components and modules"
            )
        }))
    }

    fn known(&self, index: u32) -> Instances {
        self.components.get(index as usize).copied().flatten()
    }
}
