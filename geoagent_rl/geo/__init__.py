"""Where things are: distances, place names and the offline gazetteer."""
