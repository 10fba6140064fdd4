"""One module a wire dialect; dialects never import each other."""
