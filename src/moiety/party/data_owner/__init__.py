"""The party with the features. It never imports the other role."""
