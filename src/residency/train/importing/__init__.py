"""Networks that were trained elsewhere, as package folders of ours. Read as data: nothing in them is ever run."""
