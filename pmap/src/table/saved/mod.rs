//! Leaf tables that 2 MiB mappings have displaced.
//!
//! When a large leaf takes a leaf table's place in the page directory, the table is kept: to split the mapping again must not
//! need memory, since it happens where there may be none, and hardware may walk the table by way of its paging-structure
//! caches until the next flush. So a saved table keeps what it holds, and leaves by two ways only: back into its place, or into
//! a [`Gather`]. Nothing that maps base pages only saves a table; promotion, demotion and direct 2 MiB mappings do.
//!
//! *Who may.* All of it needs the pmap lock, which a reference to the [`State`] proves.
//!
//! *Where.* Saving must not fail, so it needs no memory: the tables of a directory (a level 2 table; there is one wherever there is a
//! large leaf) form a tree whose nodes are the tables' own page records. It is a digital search tree (Coffman and Eve, 1970;
//! Knuth vol. 3, 6.3): a node at depth d is in the subtree of the first d bits of its index. Two indices of 9 bits differ
//! in one of them, so no path has more than 10 nodes, whatever the order of calls, and nothing is ever balanced. A directory is found
//! by address, so the store as a whole is keyed by the number of the 2 MiB region.
//!
//! *Accounts.* A saved table is a page-table page in use like others: counted as resident and in the statistics from its
//! allocation until it is freed. It does not count as an entry of its directory; the large leaf does.

mod audit;
mod contents;
mod node;
#[cfg(all(test, feature = "sim"))]
mod tests;

pub use contents::Contents;
use node::{KEY_BITS, Node};

use core::marker::PhantomData;

use crate::addr::{Frame, PAGE_SHIFT, VirtAddr};
use crate::entry::{Format, X86};
use crate::flush::Gather;
use crate::machine::Machine;
use crate::pmap::{Core, State};
use crate::system::System;

/// A leaf table and what it holds, or held when it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a table that is in no place is lost"]
pub(crate) struct Saved {
    pub(crate) table: Frame,
    pub(crate) contents: Contents,
}

/// The saved tables of one page directory, whose entries, like those of the tables, have the format `F`.
pub(crate) struct SavedTables<'s, M: Machine, F: Format = X86> {
    system: &'s System<M>,
    directory: Frame,
    format: PhantomData<F>,
}

/// Where a node hangs.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Below(Frame, usize),
}

/// The bit of `index` that decides below a node at `depth`.
const fn side(index: usize, depth: u32) -> usize {
    ((index << depth) >> (KEY_BITS - 1)) & 1
}

impl<'s, M: Machine, F: Format> SavedTables<'s, M, F> {
    /// Those of `directory`, a level 2 table in use.
    pub(crate) fn new(system: &'s System<M>, directory: Frame) -> Self {
        Self { system, directory, format: PhantomData }
    }

    /// Keeps `saved.table`, the table of the region of `va`, until somebody asks for it. Cannot fail, and needs no memory.
    ///
    /// The table is linked nowhere any more and remains counted as a page-table page. `saved.contents` is true of it now. There is no
    /// table of the region yet; in debug builds both are asserted.
    #[cfg_attr(
        not(all(test, feature = "sim")),
        expect(
            dead_code,
            reason = "base pages displace no table: the first callers are promotion and 2 MiB mappings"
        )
    )]
    pub(crate) fn save(&self, state: &mut State, va: VirtAddr, saved: Saved) {
        debug_assert!(
            self.contents(saved.table).is_some_and(|found| found.bears_out(saved.contents)),
            "a table is saved for what it is"
        );
        let index = va.index(2);
        let (link, found) = self.find(index);
        debug_assert!(found.is_none(), "a region has one table");
        self.set_node(saved.table, Node { index, contents: saved.contents, below: [None; 2] });
        self.set(link, Some(saved.table));
        state.saved += 1;
    }

    /// Takes the table of the region of `va` out, if there is one. Its record counts the entries that it was claimed to hold,
    /// so that it can be linked again at once; who fills an empty one says so to the record.
    #[cfg_attr(
        not(all(test, feature = "sim")),
        expect(dead_code, reason = "the first callers are demotion and the removal of a 2 MiB mapping")
    )]
    pub(crate) fn take(&self, state: &mut State, va: VirtAddr) -> Option<Saved> {
        self.take_index(state, va.index(2))
    }

    /// The table of the region of `va`, which stays saved.
    pub(crate) fn peek(&self, _state: &State, va: VirtAddr) -> Option<Saved> {
        let (_, found) = self.find(va.index(2));
        found.map(|(table, node)| Saved { table, contents: node.contents })
    }

    /// Notes that the table of the region of `va` holds something else now; false if there is none. For who changes it where it is,
    /// when no hardware can walk it: a kernel table that is emptied because its large mapping went.
    #[cfg_attr(
        not(all(test, feature = "sim")),
        expect(dead_code, reason = "the first caller is the removal of a 2 MiB mapping of the kernel's")
    )]
    pub(crate) fn restate(&self, _state: &mut State, va: VirtAddr, contents: Contents) -> bool {
        let (_, found) = self.find(va.index(2));
        let Some((table, node)) = found else { return false };
        self.set_node(table, Node { contents, ..node });
        true
    }

    /// Calls `f` with each saved table and its index in the directory, in no particular order.
    pub(crate) fn for_each(&self, _state: &State, mut f: impl FnMut(usize, Saved)) {
        self.visit(self.follow(Link::Root), 0, &mut f);
    }

    /// Takes all tables out and lets them go with `gather`, so that their frames come out after its flush. `va` is any address of
    /// the directory's.
    pub(crate) fn give_up(
        &self,
        core: &Core<M>,
        state: &mut State,
        va: VirtAddr,
        gather: &mut Gather<'_, M>,
    ) {
        while let Some(node) = self.follow(Link::Root).and_then(|root| self.node(root))
            && let Some(saved) = self.take_index(state, node.index)
        {
            core.add_resident(-1);
            gather.add_table(saved.table, region(va, node.index));
        }
    }

    /// What a table holds, whether saved or not; `None` if nothing that could be saved.
    pub(crate) fn contents(&self, table: Frame) -> Option<Contents> {
        Contents::of::<F>(|index| self.system.slot_of(table, index).load())
    }

    fn take_index(&self, state: &mut State, index: usize) -> Option<Saved> {
        let (link, found) = self.find(index);
        let (table, Node { contents, .. }) = found?;
        // Whatever hangs below a node may stand in its place: it has the same first bits.
        let heir = self.unlink_leaf_below(table);
        if let Some(heir) = heir
            && let (Some(node), Some(old)) = (self.node(heir), self.node(table))
        {
            self.set_node(heir, Node { below: old.below, ..node });
        }
        self.set(link, heir);
        if let Some(record) = self.system.page(table) {
            record.set_place((0, contents.entries()));
        }
        state.saved -= 1;
        Some(Saved { table, contents })
    }

    /// The node for `index` and the link that leads to it; if there is none, the link where it would hang.
    fn find(&self, index: usize) -> (Link, Option<(Frame, Node)>) {
        let mut link = Link::Root;
        for depth in 0..=KEY_BITS {
            let Some((table, node)) = self.follow(link).and_then(|table| Some((table, self.node(table)?)))
            else {
                break;
            };
            if node.index == index {
                return (link, Some((table, node)));
            }
            link = Link::Below(table, side(index, depth));
        }
        (link, None)
    }

    /// Takes some leaf of the tree off that hangs below `top`.
    fn unlink_leaf_below(&self, top: Frame) -> Option<Frame> {
        let (mut at, mut link) = (top, None);
        while let Some(node) = self.node(at)
            && let Some((side, child)) = node.below.iter().enumerate().find_map(|(i, c)| Some((i, (*c)?)))
        {
            link = Some(Link::Below(at, side));
            at = child;
        }
        self.set(link?, None);
        Some(at)
    }

    fn visit(&self, top: Option<Frame>, depth: u32, f: &mut impl FnMut(usize, Saved)) {
        // Bounded, so that an audit of something broken ends.
        let Some((table, node)) = top.filter(|_| depth <= KEY_BITS).and_then(|t| Some((t, self.node(t)?)))
        else {
            return;
        };
        f(node.index, Saved { table, contents: node.contents });
        node.below.into_iter().for_each(|child| self.visit(child, depth + 1, f));
    }

    fn node(&self, table: Frame) -> Option<Node> {
        Node::unpack(self.system.page(table)?.place())
    }

    fn set_node(&self, table: Frame, node: Node) {
        if let Some(record) = self.system.page(table) {
            record.set_place(node.pack());
        }
    }

    fn follow(&self, link: Link) -> Option<Frame> {
        match link {
            Link::Root => self.system.page(self.directory)?.chain(),
            Link::Below(table, side) => self.node(table)?.below[side],
        }
    }

    fn set(&self, link: Link, to: Option<Frame>) {
        match link {
            Link::Root => {
                if let Some(record) = self.system.page(self.directory) {
                    record.set_chain(to);
                }
            }
            Link::Below(table, side) => {
                if let Some(mut node) = self.node(table) {
                    node.below[side] = to;
                    self.set_node(table, node);
                }
            }
        }
    }
}

/// First address of the region of entry `index` of the directory that covers `va`.
const fn region(va: VirtAddr, index: usize) -> VirtAddr {
    let shift = PAGE_SHIFT + KEY_BITS;
    VirtAddr(((va.0 >> (shift + KEY_BITS)) << (shift + KEY_BITS)) | ((index as u64) << shift))
}
