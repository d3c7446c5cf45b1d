"""What people call what: prompts for a structure in an image of a kind, worded in many ways."""

from numpy.random import Generator

IMAGES: dict[str, tuple[str, ...]] = {
    "breast ultrasound": ("breast ultrasound", "breast ultrasound image", "ultrasound image", "ultrasound", "sonogram",
                          "breast ultrasound scan", "ultrasound of the breast", "B-mode ultrasound image"),
    "thyroid ultrasound": ("thyroid ultrasound", "thyroid ultrasound image", "ultrasound image", "ultrasound",
                           "neck ultrasound", "ultrasound of the thyroid"),
    "T1 MRI": ("T1-weighted brain MRI", "T1 MRI", "brain MRI", "T1-weighted MRI", "MRI of the brain", "MRI", "MR image",
               "head MRI"),
    "T2 MRI": ("T2-weighted brain MRI", "T2 MRI", "brain MRI", "T2-weighted MRI", "MRI of the brain", "MRI",
               "MR image"),
    "FLAIR MRI": ("FLAIR brain MRI", "FLAIR MRI", "FLAIR", "brain MRI", "FLAIR image", "MRI of the brain", "MRI"),
    "cardiac MRI": ("cardiac MRI", "short-axis cardiac MRI", "MRI of the heart", "heart MRI", "cine MRI", "MRI"),
    "abdominal CT": ("abdominal CT", "CT of the abdomen", "CT scan", "CT slice", "abdominal CT scan", "CT", "CT image"),
    "chest CT": ("chest CT", "CT of the chest", "CT scan", "lung CT", "thoracic CT", "CT", "chest CT slice"),
    "chest X-ray": ("chest X-ray", "chest radiograph", "X-ray", "radiograph", "X-ray of the chest",
                    "frontal chest X-ray", "chest x ray"),
    "dermoscopy": ("dermoscopy image", "dermoscopic image", "skin image", "dermoscopy", "photo of the skin",
                   "dermatoscopy image"),
    "endoscopy": ("endoscopy image", "colonoscopy image", "colonoscopy", "endoscopy", "endoscopic image",
                  "colonoscopy frame"),
    "histology": ("histology image", "H&E image", "histopathology image", "microscopy image", "H&E stained tissue",
                  "pathology slide"),
    "fluorescence": ("fluorescence microscopy image", "microscopy image", "fluorescence image", "microscopy",
                     "DAPI image"),
}  # fmt: skip
"""Kind of image -> its names, the usual one first."""

_TUMOR = ("tumor", "tumour", "mass", "lesion", "neoplasm")
PARTS: dict[str, tuple[str, ...]] = {
    "breast lesion": ("tumor", "tumour", "mass", "lesion", "breast tumor", "breast lesion", "breast mass", "nodule",
                      "hypoechoic mass", "hypoechoic lesion", "dark mass", "breast cancer", "suspicious lesion"),
    "benign lesion": ("benign tumor", "benign mass", "benign lesion", "fibroadenoma", "benign breast tumor"),
    "malignant lesion": ("malignant tumor", "malignant mass", "malignant lesion", "carcinoma", "cancer",
                         "malignant breast tumor"),
    "cyst": ("cyst", "simple cyst", "anechoic cyst", "fluid-filled cyst"),
    "shadow": ("acoustic shadow", "posterior shadow", "shadow", "acoustic shadowing"),
    "skin": ("skin", "skin layer"),
    "fat": ("fat", "subcutaneous fat", "fat layer", "fatty tissue"),
    "muscle": ("muscle", "muscle layer", "pectoral muscle"),
    "gland": ("glandular tissue", "fibroglandular tissue", "gland tissue"),
    "thyroid": ("thyroid", "thyroid gland"),
    "thyroid nodule": ("nodule", "thyroid nodule", "lesion", "mass", "tumor"),
    "vessel": ("artery", "carotid artery", "vessel", "blood vessel"),
    "brain": ("brain", "whole brain", "brain tissue", "brain mask"),
    "white matter": ("white matter", "WM", "cerebral white matter"),
    "grey matter": ("grey matter", "gray matter", "GM", "cortex", "cortical grey matter"),
    "ventricles": ("ventricles", "lateral ventricles", "ventricle"),
    "fluid": ("CSF", "cerebrospinal fluid"),
    "skull": ("skull", "head outline", "scalp and skull"),
    "brain tumor": ("tumor", "tumour", "brain tumor", "glioma", "mass", "brain lesion", "lesion", "whole tumor",
                    "glioblastoma"),
    "tumor core": ("tumor core", "tumour core", "enhancing tumor", "solid part of the tumor"),
    "white matter lesions": ("lesions", "white matter lesions", "MS lesions", "multiple sclerosis lesions",
                             "white matter hyperintensities", "hyperintense lesions"),
    "left ventricle": ("left ventricle", "LV cavity", "left ventricular cavity", "blood pool of the left ventricle"),
    "myocardium": ("myocardium", "LV myocardium", "heart muscle", "left ventricular myocardium"),
    "right ventricle": ("right ventricle", "RV cavity", "right ventricular cavity"),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "kidneys": ("kidneys", "kidney", "both kidneys"),
    "spine": ("spine", "vertebra", "bone", "vertebral body"),
    "aorta": ("aorta", "vessel", "descending aorta"),
    "body": ("body", "patient", "whole body"),
    "liver tumor": ("tumor", "tumour", "liver tumor", "lesion", "liver lesion", "metastasis", "hepatic lesion", "mass"),
    "lungs": ("lungs", "lung", "both lungs", "lung fields", "lung field"),
    "lung nodule": ("nodule", "lung nodule", "pulmonary nodule", "tumor", "lung tumor", "lesion", "mass"),
    "infection": ("infection", "COVID-19 infection", "opacity", "ground-glass opacity", "pneumonia", "consolidation",
                  "infected area", "lung opacity"),
    "heart": ("heart", "cardiac silhouette", "heart shadow"),
    "skin lesion": ("lesion", "skin lesion", "melanoma", "mole", "nevus", "pigmented lesion", "skin cancer", "tumor"),
    "hair": ("hair", "hairs"),
    "polyp": ("polyp", "colon polyp", "polyps", "colorectal polyp", "lesion", "adenoma"),
    "lumen": ("lumen", "dark lumen", "bowel lumen"),
    "highlights": ("highlights", "specular highlights", "reflections", "glare"),
    "nuclei": ("nuclei", "cell nuclei", "cells", "nucleus", "stained nuclei"),
    "glands": ("glands", "gland", "tumor glands"),
}  # fmt: skip
"""Structure -> its names, the usual one first."""

PARTS_OF: dict[str, tuple[str, ...]] = {
    "breast ultrasound": ("breast lesion", "benign lesion", "malignant lesion", "cyst", "shadow", "skin", "fat",
                          "muscle", "gland"),
    "thyroid ultrasound": ("thyroid", "thyroid nodule", "vessel"),
    **dict.fromkeys(("T1 MRI", "T2 MRI", "FLAIR MRI"), ("brain", "white matter", "grey matter", "ventricles", "skull",
                                                        "brain tumor", "tumor core", "white matter lesions")),
    "cardiac MRI": ("left ventricle", "myocardium", "right ventricle"),
    "abdominal CT": ("liver", "spleen", "kidneys", "spine", "aorta", "body", "liver tumor"),
    "chest CT": ("lungs", "spine", "body", "lung nodule", "infection"),
    "chest X-ray": ("lungs", "heart", "lung nodule", "infection"),
    "dermoscopy": ("skin lesion", "hair"),
    "endoscopy": ("polyp", "lumen", "highlights"),
    "histology": ("nuclei", "glands"),
    "fluorescence": ("nuclei",),
}  # fmt: skip
"""Kind of image -> what can be asked of it."""

FINDINGS = {
    "breast lesion", "cyst", "thyroid nodule", "brain tumor", "white matter lesions", "liver tumor", "lung nodule",
    "infection", "skin lesion", "polyp",
}  # fmt: skip
"""What may be absent from an image that could show it."""

_FORMS = (
    "{part} in {a}{image}", "{part} in {a}{image}", "{part} on {a}{image}", "{part}", "{part}, {image}",
    "the {part} in this {image}", "{image}: {part}", "segment the {part} in the {image}", "{part} {image}",
    "{a}{image} showing {part}",
)  # fmt: skip
_UNARTICLED = (
    "ultrasound",
    "MRI",
    "CT",
    "dermoscopy",
    "endoscopy",
    "colonoscopy",
    "microscopy",
    "FLAIR",
    "H&E stained",
)


def usual_prompt(part: str, image: str) -> str:
    """The most usual wording, such as "tumor in a breast ultrasound"."""
    return _FORMS[0].format(part=PARTS[part][0], image=IMAGES[image][0], a=article(IMAGES[image][0]))


def word_prompt(rng: Generator, part: str, image: str) -> str:
    """Any wording of a structure in a kind of image; sometimes in capitals or with a full stop."""
    name = PARTS[part][rng.integers(len(PARTS[part]))]
    kind = IMAGES[image][rng.integers(len(IMAGES[image]))]
    text = _FORMS[rng.integers(len(_FORMS))].format(part=name, image=kind, a=article(kind))
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.1 else text


def article(kind: str) -> str:
    """ "a ", "an " or nothing before the name of an image."""
    if kind in _UNARTICLED or kind.startswith(("H&E stained", "ultrasound of", "MRI of", "CT of")):
        return ""
    return "an " if kind[0] in "aeiouAEIOHMX" else "a "


def all_words() -> list[str]:
    """Texts that together hold every word of every prompt."""
    names = [name for group in (*PARTS.values(), *IMAGES.values()) for name in group]
    forms = [form.format(part="x", image="x", a="an a ") for form in _FORMS]
    # A full stop and a comma are tokens of their own wherever they stand.
    return [*names, *forms, "x."]
