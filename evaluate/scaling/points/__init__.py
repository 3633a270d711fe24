"""Points: what laws are fitted to, from files, Records, frames and mappings."""
