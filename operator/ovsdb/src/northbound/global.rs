//! The settings of the whole of OVN.

use std::collections::BTreeMap;

use super::describe::table;

table! {
    /// The one row of settings. It belongs to everybody: only the options and external IDs that are given are set.
    pub struct NbGlobal = "NB_Global", Required, Single {
        /// Names OVN as a whole.
        name: crate::table::Keep<String> = "name", Optional, Whole;
        /// Settings, `mac_prefix` for one. `ovn-northd` keeps some here too.
        options: BTreeMap<String, String> = "options", Required, Given;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
    watched {
        "nb_cfg": i64, Required;
        "sb_cfg": i64, Required;
        "hv_cfg": i64, Required;
        "hv_cfg_timestamp": i64, Optional;
        "sb_cfg_timestamp": i64, Optional;
    }
}
