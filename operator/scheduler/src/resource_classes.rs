//! Resource classes other than processors, memory and disk: what each host has and gave out.

use std::collections::HashMap;

use crate::bits::{BLOCK, Bits};
use crate::classes::Classes;
use crate::column::Column;
use crate::{Host, Inventory};

/// The classes by small numbers, never taken back: there are as many as operators made up.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResourceClasses {
    blocks: usize,
    list: Vec<ResourceClass>,
    by_name: HashMap<String, u32>,
}

#[derive(Debug, Clone, Default)]
struct ResourceClass {
    name: String,
    /// The hosts that have an inventory of it. A class may be heard of before any host has it.
    having: Bits,
    /// Units that those hosts can still give out.
    left: Column<u64>,
    /// What one Instance may ask for.
    rules: Classes<Rule>,
}

/// What one Instance may ask for of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rule {
    min_unit: u64,
    max_unit: u64,
    step_size: u64,
}

impl Rule {
    fn of(inventory: &Inventory) -> Self {
        Self {
            min_unit: inventory.min_unit,
            max_unit: inventory.max_unit.min(inventory.total),
            step_size: inventory.step_size.max(1),
        }
    }

    fn allows(&self, asked: u64) -> bool {
        (self.min_unit..=self.max_unit).contains(&asked) && asked.is_multiple_of(self.step_size)
    }
}

impl ResourceClasses {
    pub(crate) fn grow(&mut self, blocks: usize) {
        self.blocks = blocks;
        for class in &mut self.list {
            class.having.grow(blocks);
            class.left.grow(blocks);
            class.rules.grow(blocks);
        }
    }

    /// The number of a class, made when there is none.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.by_name.get(name) {
            return number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let mut class = ResourceClass {
            name: name.to_owned(),
            ..ResourceClass::default()
        };
        class.having.grow(self.blocks);
        class.left.grow(self.blocks);
        class.rules.grow(self.blocks);
        self.list.push(class);
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// Looks up and adds nothing: what tenants ask for must not grow the table.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, number: u32) -> &str {
        self.list.get(number as usize).map_or("", |class| &class.name)
    }

    /// Works out anew what a host has left.
    pub(crate) fn recount(&mut self, slot: u32, host: Option<&Host>, used: &[(u32, u128)]) {
        let block = slot as usize / BLOCK;
        for (number, class) in (0u32..).zip(&mut self.list) {
            if let Some(inventory) = host.and_then(|host| host.inventories.get(&class.name)) {
                let used = used.iter().find(|(of, _)| *of == number).map_or(0, |&(_, used)| used);
                let left = u128::from(inventory.limit()).saturating_sub(used);
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                class.having.set(slot, true);
                class.left.set(slot, left, class.having.word(block));
                class.rules.put(slot, Rule::of(inventory));
            } else {
                class.having.set(slot, false);
                class.left.clear(slot, class.having.word(block));
                class.rules.clear(slot);
            }
        }
    }

    /// Units that a host can still give out.
    pub(crate) fn left(&self, number: u32, slot: u32) -> u64 {
        self.list.get(number as usize).map_or(0, |class| class.left.get(slot))
    }

    /// Keeps the hosts that can give so many units to one Instance.
    pub(crate) fn keep(&self, left: &mut Bits, number: Option<u32>, asked: u64) {
        let Some(class) = number.and_then(|number| self.list.get(number as usize)) else {
            left.clear();
            return;
        };
        left.keep(&class.having);
        class.left.keep_at_least(left, asked.max(1));
        class.rules.keep(left, |rule| rule.allows(asked));
    }
}
