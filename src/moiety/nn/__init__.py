"""The interactive layer as a PyTorch module, the networks around it, and how they are trained."""
