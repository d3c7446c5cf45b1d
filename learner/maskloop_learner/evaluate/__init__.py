"""How a model does on labelled images: figures for each image, pictures to look at, and the paper's protocols."""
