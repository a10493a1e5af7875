import com.pixelmed.validate.DicomSRValidator;

/** Runs PixelMed's SR validator over many files: its rules take seconds to load, so they are loaded once. */
public class ValidateAll {
    public static void main(String[] files) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        validator.setOptionCheckTemplateID(true);
        validator.setOptionCheckContentItemOrder(true);
        for (String file : files) {
            System.out.println("=== " + file);
            System.out.println(validator.validate(file));
        }
    }
}
