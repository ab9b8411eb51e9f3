//! Limits what the core instances of one call allocate.

use dagster_ray_policy::Limits;
use wasmtime::{Error, ResourceLimiter, Result, bail};

/// Counts the memory and the table elements of one call.
///
/// wasmtime's `StoreLimits` limits each memory and each table alone. A component can have many of each,
/// so these limits hold for their sum.
pub(crate) struct CallLimiter {
    memory_bytes: usize,
    memory_mib: u32,
    table_elements: usize,
    max_table_elements: u32,
    max_instances: u32,
}

impl CallLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_mib: limits.memory_mib,
            table_elements: 0,
            max_table_elements: limits.table_elements,
            max_instances: limits.instances,
        }
    }
}

// A guest that cannot grow its memory usually aborts without a message. A trap has one, so a refused
// growth is an error. It ends the call, so a refused size needs no subtraction.
impl ResourceLimiter for CallLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.memory_bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if self.memory_bytes > (self.memory_mib as usize) << 20 {
            bail!(
                "it uses more than the {} MiB of memory that its limit `memory_mib` allows",
                self.memory_mib
            );
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            bail!("it grows a memory to {desired} bytes, beyond the maximum of the memory");
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.table_elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if self.table_elements > self.max_table_elements as usize {
            bail!(
                "it uses more than the {} table elements that its limit `table_elements` allows",
                self.max_table_elements
            );
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            bail!("it grows a table to {desired} elements, beyond the maximum of the table");
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn instances(&self) -> usize {
        self.max_instances as usize
    }

    fn tables(&self) -> usize {
        self.max_instances as usize
    }

    fn memories(&self) -> usize {
        self.max_instances as usize
    }
}
