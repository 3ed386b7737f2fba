"""The party with the labels. It never imports the other role."""
