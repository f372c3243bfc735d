"""One page of what the labels of a run do: read, counted, drawn; nothing is trained or changed."""
